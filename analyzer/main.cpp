// The command line of tidemark: picks the command, nothing more.
#include <CLI/CLI.hpp>
#include <cstring>
#include <iostream>

#include "analyzer/commands/control.h"
#include "analyzer/commands/report.h"
#ifdef TIDEMARK_HAVE_RUN
#include "analyzer/commands/run.h"
#endif

namespace {

constexpr int kUsageError = 2;

int run(int argc, char** argv) {
#ifdef TIDEMARK_HAVE_RUN
  return tidemark::run_command(argc, argv);
#else
  (void)argc, (void)argv;
  std::cerr << "tidemark: this build has no run command\n";
  return kUsageError;
#endif
}

// Nine digits fit into an int32_t.
bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
}

void add_report(CLI::App& app, tidemark::commands::ReportArguments& arguments) {
  CLI::App* report = app.add_subcommand("report", "Say how a recorded process ended and what its heap held");
  report->add_option("FILE", arguments.paths, "Regions (NAME.PID.tide) or folders with regions; also of running processes")
      ->required();
  report->add_option("--top", arguments.top, "Show the N call stacks with the most live bytes; 0: all, also those with nothing live (default: 10, in JSON all)")
      ->check([](const std::string& text) {
        return is_number(text) ? std::string() : "takes a number of call stacks, 0 for all, not \"" + text + '"';
      })
      ->type_name("N");
  report->add_flag("--full", arguments.full, "Show all frames, and names in full length");
  report->add_flag("--json", arguments.json, "One JSON object on standard output; {\"reports\":[…]} of several files");
  report->add_flag("--details", arguments.details, "JSON: also lifetime histograms, survivors by age, live bytes over time");
}

using tidemark::commands::ControlArguments;

CLI::App* add_control(CLI::App& app, const char* name, const char* help, ControlArguments& arguments) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("PID", arguments.pid, "A running process that tidemark records")
      ->required()
      ->check([](const std::string& text) {
        bool pid = is_number(text) && text.find_first_not_of('0') != std::string::npos;
        return pid ? std::string() : '"' + text + "\" is no number of a process";
      })
      ->type_name("");
  command->add_flag("--json", arguments.json, "One JSON object on standard output");
  return command;
}

using Control = int (*)(const ControlArguments&);

// `chosen` becomes the command that is given.
void add_controls(CLI::App& app, ControlArguments& arguments, Control& chosen) {
  namespace commands = tidemark::commands;
  add_control(app, "stats", "Memory of a running process now, and since its baseline", arguments)->callback([&] { chosen = commands::stats; });
  add_control(app, "cleanup", "Purge its allocator now", arguments)->callback([&] { chosen = commands::cleanup; });
  CLI::App* snapshot = add_control(app, "snapshot", "A consistent copy of its region, for `tidemark report`", arguments);
  snapshot->add_option("-o,--output", arguments.output, "The copy's name (default: beside the region)");
  snapshot->callback([&] { chosen = commands::snapshot; });
  add_control(app, "stop", "End the recording; the process and its heap go on", arguments)->callback([&] { chosen = commands::stop; });
  CLI::App* set = add_control(app, "set", "Change an option while it runs, such as cleanup_interval=60", arguments);
  set->add_option("KEY=VALUE", arguments.setting, "Options that can change: see README.md")->required();
  set->callback([&] { chosen = commands::set; });
}

}  // namespace

int main(int argc, char** argv) {
  // `run` sees its arguments as they are: what follows belongs to the launched command.
  if (argc > 1 && std::strcmp(argv[1], "run") == 0) return run(argc - 1, argv + 1);

  CLI::App app("tidemark: which call stacks hold a process's heap, while it runs and after it died", "tidemark");
  app.set_version_flag("--version", "tidemark " TIDEMARK_VERSION);
  app.require_subcommand(1);
  app.add_subcommand("run", "Launch a command and record its heap (tidemark run --help)");
  tidemark::commands::ReportArguments report;
  add_report(app, report);
  ControlArguments control;
  Control chosen = nullptr;
  add_controls(app, control, chosen);
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands([&](CLI::App* known) { return known->check_name(argv[1]); }).empty()) {
    std::cerr << "tidemark: there is no command '" << argv[1] << "' (tidemark --help)\n";
    return kUsageError;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::cerr << "tidemark: " << error.what() << " (tidemark --help)\n";
    return kUsageError;
  }
  return chosen ? chosen(control) : tidemark::commands::report(report);
}
