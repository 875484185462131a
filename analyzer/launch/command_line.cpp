#include "analyzer/launch/command_line.h"

namespace tidemark::launch {
namespace {

constexpr const char* kTryHelp = " (tidemark run --help lists them)";

std::string_view type_name(OptionType type) {
  switch (type) {
    case OptionType::Bool:
      return "0|1";
    case OptionType::Count:
      return "N";
    case OptionType::Size:
      return "SIZE";
    case OptionType::Millis:
    case OptionType::Seconds:
      return "TIME";
    case OptionType::Text:
      break;
  }
  return "TEXT";
}

class Parser {
 public:
  Parser(const std::vector<std::string>& words, CommandLine& result) : words_(words), result_(result) {}

  void run() {
    while (at_ < words_.size() && result_.error.empty()) {
      const std::string& word = words_[at_];
      if (word == "--") {
        ++at_;
        break;
      }
      if (word.size() < 2 || word[0] != '-') break;
      ++at_;
      word[1] == '-' ? long_option(word.substr(2)) : short_option(word);
    }
    result_.command.assign(words_.begin() + ptrdiff_t(at_), words_.end());
  }

 private:
  void short_option(const std::string& word) {
    if (word == "-h") {
      result_.help = true;
    } else if (word[1] == 'o') {
      word.size() > 2 ? give("dir", word.substr(2)) : give_next("dir", word);
    } else {
      result_.error = "unknown option " + word + kTryHelp;
    }
  }

  void long_option(const std::string& word) {
    size_t equals = word.find('=');
    std::string name = word.substr(0, equals);
    if (word == "help") {
      result_.help = true;
    } else if (word == "strict") {
      result_.strict = true;
    } else if (!find_option(name)) {
      std::string_view near = nearest_option(name);
      result_.error = "unknown option --" + name + (near.empty() ? kTryHelp : "; did you mean --" + std::string(near) + "?");
    } else if (equals == word.npos) {
      give_next(name, "--" + name);
    } else {
      give(name, word.substr(equals + 1));
    }
  }

  void give_next(const std::string& name, const std::string& shown) {
    if (at_ < words_.size() && words_[at_] != "--") return give(name, words_[at_++]);
    result_.error = shown + " needs a value" + kTryHelp;
  }

  void give(const std::string& name, const std::string& value) {
    const OptionRow& row = *find_option(name);
    result_.error = check_value(row, value);
    if (row.name == "dir" && value.empty()) result_.error = "the folder for regions has an empty name";
    result_.options.set(row.name, value);
  }

  const std::vector<std::string>& words_;
  CommandLine& result_;
  size_t at_ = 0;
};

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& words, const char* environment) {
  CommandLine result;
  std::string wrong = environment ? result.options.parse(environment) : "";
  Parser(words, result).run();
  if (!wrong.empty() && !result.help) result.error = "TIDEMARK_OPTIONS: " + wrong;
  if (result.error.empty() && !result.help && result.command.empty()) {
    result.error = "run needs a command: tidemark run [OPTION…] -- COMMAND [ARGUMENT…]";
  }
  return result;
}

std::string run_help() {
  std::string text =
      "Usage: tidemark run [-o DIR] [--KEY=VALUE …] [--strict] [--] COMMAND [ARGUMENT…]\n"
      "\n"
      "Runs COMMAND with libtidemark.so as its allocator. What it learns is in DIR/NAME.PID.tide, at any time and however\n"
      "COMMAND ends; read it with `tidemark report`. Signals and the exit status pass through.\n"
      "\n"
      "  -o DIR      same as --dir=DIR\n"
      "  --strict    refuse (status 125) where COMMAND would run unrecorded\n"
      "  -h, --help  this text\n"
      "\n"
      "Keys (sizes take K, M, G; times take ms, s, m, h, d). TIDEMARK_OPTIONS=KEY=VALUE:KEY=VALUE gives other defaults.\n"
      "\n";
  for (const OptionRow& row : option_rows()) {
    std::string key = "  --" + std::string(row.name) + "=" + std::string(type_name(row.type));
    text += key + (key.size() < 36 ? std::string(36 - key.size(), ' ') : " ") + std::string(row.help);
    if (!row.default_value.empty()) text += " [" + std::string(row.default_value) + "]";
    text += '\n';
  }
  return text + "\nStatus: COMMAND's own; 125 tidemark cannot do it, 126 COMMAND cannot be executed, 127 it was not found.\n";
}

}  // namespace tidemark::launch
