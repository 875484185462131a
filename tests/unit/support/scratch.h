// A folder of its own for a test, removed with all it holds.
#pragma once
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace tidemark::test {

class Scratch {
 public:
  Scratch() {
    const std::string unique(6, 'X');   // mkdtemp puts letters in their place
    std::string pattern = (std::filesystem::temp_directory_path() / ("tidemark-test-" + unique)).string();
    path_ = mkdtemp(pattern.data());
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + '/' + name; }

  std::string write(const std::string& name, const std::string& content, mode_t mode = 0755) const {
    std::string path = *this / name;
    std::ofstream(path, std::ios::binary) << content;
    chmod(path.c_str(), mode);
    return path;
  }

 private:
  std::string path_;
};

}  // namespace tidemark::test
