#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "kernels/error.h"
#include "tools/answer.h"
#include "tools/cli.h"
#include "tools/statistics.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kHelp = R"(/help           this list
/clear          forget the conversation
/regen          answer the last message again, with another seed
/system TEXT    set the system message and begin anew; without TEXT, remove it
/save FILE      write the conversation as JSON messages
/exit           leave (so does Ctrl-D)
A line that ends in \ continues on the next. Ctrl-C stops an answer.
)";

struct ChatFlags {
  EngineOptions engine;
  SamplingFlags sampling;
  Draft draft = Draft::kNone;
  std::string system;
  int64_t max_tokens = 0;  // 0: as many as fit
  bool stats = false;
};

/// Lines from the user: edited with history on a terminal, plain otherwise.
class LineReader {
 public:
  LineReader() {
    if (!stdin_is_terminal()) return;
    editor_ = el_init("stamp", stdin, stdout, stderr);
    history_ = history_init();
    if (editor_ == nullptr || history_ == nullptr) throw Error("the line editor cannot start");
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    el_set(
        editor_, EL_PROMPT, +[](EditLine*) -> char* {
          static char prompt[] = "> ";
          return prompt;
        });
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);
    el_set(editor_, EL_HIST, ::history, history_);
  }
  ~LineReader() {
    if (editor_ != nullptr) el_end(editor_);
    if (history_ != nullptr) history_end(history_);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line without its end; nothing at the end of input. Ctrl-C gives an empty line.
  std::optional<std::string> next() {
    std::string line;
    for (bool more = true; more;) {
      const auto part = editor_ != nullptr ? edited() : plain();
      if (!part) return line.empty() ? std::nullopt : std::optional(line);
      line += *part;
      more = !line.empty() && line.back() == '\\';
      if (more) line.back() = '\n';
    }
    return line;
  }

 private:
  std::optional<std::string> edited() {
    int count = 0;
    errno = 0;
    const char* text = el_gets(editor_, &count);
    if (text == nullptr) {
      if (!interrupted().exchange(false)) return std::nullopt;
      print("\n");
      el_reset(editor_);
      return std::string();
    }
    std::string line(text, size_t(count));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    HistEvent event;
    if (!line.empty()) history(history_, &event, H_ENTER, line.c_str());
    return line;
  }

  std::optional<std::string> plain() {
    std::string line;
    for (char c; true;) {
      const ssize_t n = read(STDIN_FILENO, &c, 1);
      if (n < 0 && errno == EINTR && !interrupted()) continue;
      if (n <= 0) return line.empty() ? std::nullopt : std::optional(line);
      if (c == '\n') return line;
      line += c;
    }
  }

  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

/// The conversation, and the session whose cache holds as much of it as the next turn can reuse.
class Chat {
 public:
  Chat(Engine& engine, const ChatFlags& flags)
      : engine_(engine),
        flags_(flags),
        chat_template_(require_chat_template(engine)),
        sampling_(flags.sampling.resolve(engine.generation_config())),
        session_(engine) {
    sampling_.validate(engine.config().vocab_size);
    start(flags.system);
  }

  /// False when the user wants to leave.
  bool handle(const std::string& line) {
    const size_t space = line.find_first_of(" \t\n");
    const std::string command = line.substr(0, space);
    const size_t text = space == std::string::npos ? space : line.find_first_not_of(" \t\n", space);
    const std::string rest = text == std::string::npos ? "" : line.substr(text);
    if (command == "/exit" || command == "/quit") return false;
    if (command == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (command == "/clear") {
      start(system_);
    } else if (command == "/system") {
      start(rest);
    } else if (command == "/regen") {
      regenerate();
    } else if (command == "/save") {
      save(rest);
    } else if (line.starts_with('/')) {
      fmt::print(stderr, "{} is no command; /help lists them\n", command);
    } else {
      messages_.push_back({{"role", "user"}, {"content", line}});
      answer();
    }
    return true;
  }

 private:
  void start(const std::string& system) {
    system_ = system;
    messages_ = nlohmann::ordered_json::array();
    if (!system.empty()) messages_.push_back({{"role", "system"}, {"content", system}});
  }

  void regenerate() {
    if (!messages_.empty() && messages_.back()["role"] == "assistant") messages_.erase(messages_.size() - 1);
    if (messages_.empty() || messages_.back()["role"] != "user") {
      fmt::print(stderr, "there is no message to answer again\n");
      return;
    }
    ++sampling_.seed;
    answer();
  }

  void save(const std::string& file) const {
    if (file.empty()) {
      fmt::print(stderr, "/save needs a file name\n");
      return;
    }
    try {
      write_json(file, messages_);
      fmt::print(stderr, "{} messages in {}\n", messages_.size(), file);
    } catch (const Error& e) {
      fmt::print(stderr, "{}\n", e.what());
    }
  }

  /// Answers the last message. One that cannot be answered is taken back, so that the conversation goes on.
  void answer() {
    try {
      ChatTemplate::Inputs inputs;
      inputs.messages = messages_;
      GenerateRequest request{
          .prompt = engine_.tokenizer().encode(chat_template_.render(inputs),
                                               {.add_special = false, .parse_special = true}),
          .sampling = sampling_,
          .stops = flags_.sampling.stops(),
          .draft = flags_.draft};
      request.max_tokens = flags_.max_tokens > 0 ? flags_.max_tokens : engine_.context();
      interrupted() = false;
      const GenerateResult result = answer_on_terminal(session_, request);
      interrupted() = false;
      messages_.push_back({{"role", "assistant"}, {"content", result.text}});
      if (result.finish == GenerateResult::Finish::kLength && flags_.max_tokens == 0)
        fmt::print(stderr, "the context of {} tokens is full; /clear begins anew\n", engine_.context());
      if (flags_.stats) print_statistics(engine_, result);
    } catch (const InputError& e) {
      messages_.erase(messages_.size() - 1);
      fmt::print(stderr, "{}; the message was not added, /clear begins anew\n", e.what());
    }
  }

  Engine& engine_;
  const ChatFlags& flags_;
  const ChatTemplate& chat_template_;
  SamplingParams sampling_;
  Session session_;
  std::string system_;
  nlohmann::ordered_json messages_;
};

int run(const ChatFlags& flags) {
  Engine engine(flags.engine);
  Chat chat(engine, flags);
  install_interrupt_handler();
  LineReader reader;
  if (stdin_is_terminal())
    fmt::print(stderr, "{}, {} x{}. /help lists the commands.\n", flags.engine.model.filename().string(),
               engine.ops().name(), engine.ops().threads());
  while (const auto line = reader.next())
    if (!line->empty() && !chat.handle(*line)) break;
  return 0;
}

}  // namespace

void add_chat(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Talk with the model");
  command->footer(std::string("In the chat:\n") + kHelp +
                  "\nExample:\n  stamp chat -m DIR --system \"Be brief.\" --temp 0.7");
  add_model_flags(*command, flags->engine);
  add_context_flag(*command, flags->engine);
  add_draft_flag(*command, flags->draft);
  add_flag_with_mirror(*command, "--system", flags->system, "System message");
  add_flag_with_mirror(*command, "-n,--max-tokens", flags->max_tokens,
                       "Most tokens of an answer; 0 is what the context holds")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  add_switch_with_mirror(*command, "--stats", flags->stats, "Statistics on stderr after each answer");
  flags->sampling.add(*command);
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
