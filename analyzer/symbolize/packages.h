// Which Debian package would bring a module's debug information.
#pragma once
#include <map>
#include <set>
#include <string>

namespace tidemark::symbolize {

// The package that installed each file, from dpkg's lists in `folder`; files of no package are not in the answer.
std::map<std::string, std::string> owning_packages(const std::set<std::string>& paths,
                                                   const std::string& folder = "/var/lib/dpkg/info");

// The package with the debug information of all that `package` installs.
std::string debug_package(const std::string& package);

}  // namespace tidemark::symbolize
