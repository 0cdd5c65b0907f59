#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <fstream>
#include <set>

#include "kernels/error.h"
#include "models/json.h"
#include "models/sha256.h"
#include "tools/cli.h"
#include "tools/serve/answers.h"
#include "tools/serve/api_error.h"
#include "tools/serve/serve_flags.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    R"(Each line of --in is a request as OpenAI's batches have it:
  {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}
The other url is /v1/completions. Lines of --out have the requests' custom_id and come in the order in which the
answers are ready. Requests whose answers are there already are not repeated: an interrupted run goes on where it was.

Examples:
  stamp batch -m DIR --in requests.jsonl --out results.jsonl)";

struct BatchFlags {
  EngineOptions engine;
  SchedulerOptions scheduler{.parallel = 16};
  int64_t kv_memory = 0;
  std::string in, out, served_name;
};

struct Line {
  std::string custom_id{};
  bool chat = false;
  std::string body{};
};

std::string field(const Json& line, const char* name, const std::string& place) {
  if (!line.contains(name) || !line[name].is_string())
    throw InputError(place + ": needs the field " + name + ", a string");
  return line[name].get<std::string>();
}

Line parse_line(const std::string& text, const std::string& place) {
  const Json object = parse_ordered_json(text, place);
  if (!object.is_object()) throw InputError(place + ": must be a JSON object");
  Line line{.custom_id = field(object, "custom_id", place)};
  const std::string url = field(object, "url", place);
  line.chat = url == "/v1/chat/completions";
  if (!line.chat && url != "/v1/completions")
    throw InputError(place + ": url must be /v1/chat/completions or /v1/completions");
  if (field(object, "method", place) != "POST") throw InputError(place + ": method must be POST");
  if (!object.contains("body") || !object["body"].is_object())
    throw InputError(place + ": needs the field body, an object");
  line.body = object["body"].dump();
  return line;
}

/// All requests, checked before the model is loaded.
std::vector<Line> read_requests(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw InputError(file + ": cannot be read");
  std::vector<Line> lines;
  std::set<std::string> ids;
  std::string text;
  for (int64_t number = 1; std::getline(in, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string place = fmt::format("{}:{}", file, number);
    lines.push_back(parse_line(text, place));
    if (!ids.insert(lines.back().custom_id).second)
      throw InputError(place + ": custom_id " + lines.back().custom_id + " is there already");
  }
  if (lines.empty()) throw InputError(file + ": holds no request");
  return lines;
}

/// The custom_ids of the results that are there. A last line without its end is from a run that was stopped:
/// it is cut off.
std::set<std::string> finished(const std::string& file) {
  std::set<std::string> ids;
  if (!std::filesystem::exists(file)) return ids;
  const std::string text = read_text(file);
  size_t begin = 0;
  for (int64_t number = 1; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string place = fmt::format("{}:{}", file, number);
    const Json line = parse_ordered_json(text.substr(begin, end - begin), place);
    if (!line.is_object() || !line.contains("response"))
      throw InputError(place + ": is no result of stamp batch; give another file to --out");
    ids.insert(field(line, "custom_id", place));
    begin = end + 1;
  }
  if (begin < text.size()) std::filesystem::resize_file(file, begin);
  return ids;
}

/// Requests go to the scheduler as it has room for them; results are written as they come.
class Run {
 public:
  Run(const BatchFlags& flags, std::vector<Line> lines)
      : lines_(std::move(lines)),
        out_(flags.out, std::ios::binary | std::ios::app),
        file_(flags.out),
        model_(flags.engine, flags.scheduler, flags.kv_memory, flags.served_name) {
    if (!out_) throw InputError(file_ + ": cannot be written");
  }

  void run() {
    Progress progress("batch");
    while (done_ < lines_.size()) {
      while (submit_next()) {
      }
      take_events();
      progress.update(int64_t(done_), int64_t(lines_.size()));
    }
  }
  int64_t failed() const { return failed_; }
  Scheduler::Stats stats() const { return model_.scheduler.stats(); }

 private:
  /// A request whose sequences are under way.
  struct Open {
    explicit Open(Prepared p) : prepared(std::move(p)) {}
    const Line* line = nullptr;
    Prepared prepared;
    std::unique_ptr<Answer> answer{};
    size_t submitted = 0, ended = 0;
    std::string error{};
  };
  struct Event {
    Open* open;
    size_t sequence;
    GenerateEvent event;
  };

  /// False if the scheduler has no room, or there are no more.
  bool submit_next() {
    if (open_.empty() || open_.back()->submitted == open_.back()->prepared.sequences()) {
      if (next_ == lines_.size()) return false;
      begin(lines_[next_++]);
      return true;
    }
    Open& open = *open_.back();
    const size_t sequence = open.submitted;
    const auto sink = [this, &open, sequence](GenerateEvent event) {
      const std::lock_guard lock(mutex_);
      events_.push_back({&open, sequence, std::move(event)});
      arrived_.notify_one();
    };
    if (!model_.scheduler.submit(open.prepared.make(sequence), sink)) return false;
    ++open.submitted;
    return true;
  }

  void begin(const Line& line) {
    const std::string id = id_of(line);
    try {
      auto open = std::make_unique<Open>(
          line.chat ? prepare_chat(parse_chat_request(line.body, model_.vocab_size()), model_)
                    : prepare_completion(parse_completion_request(line.body, model_.vocab_size()), model_));
      if (open->prepared.params.stream) throw ApiError(400, "a batch cannot stream its answers", "stream");
      open->line = &line;
      open->answer =
          line.chat ? chat_answer(open->prepared, model_, id) : completion_answer(open->prepared, model_, id);
      open_.push_back(std::move(open));
    } catch (const ApiError& e) {
      write(line, e.status, e.json());
    }
  }

  void take_events() {
    std::deque<Event> events;
    {
      std::unique_lock lock(mutex_);
      if (open_.empty()) return;
      arrived_.wait(lock, [this] { return !events_.empty(); });
      events.swap(events_);
    }
    for (Event& e : events) {
      if (e.event.finish == GenerateEvent::Finish::kFailed) e.open->error = e.event.error;
      e.open->answer->push(e.sequence, e.event);
      if (e.event.finish && ++e.open->ended == e.open->prepared.sequences()) end(*e.open);
    }
  }

  void end(Open& open) {
    if (open.error.empty()) write(*open.line, 200, open.answer->whole());
    else write(*open.line, 500, ApiError(500, open.error).json());
    std::erase_if(open_, [&](const auto& other) { return other.get() == &open; });
  }

  void write(const Line& line, int status, Json body) {
    const std::string id = id_of(line);
    const Json result{{"id", "batch_req_" + id},
                      {"custom_id", line.custom_id},
                      {"response", {{"status_code", status}, {"request_id", "req_" + id}, {"body", body}}},
                      {"error", nullptr}};
    out_ << result.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;  // it is there to stay
    if (!out_) throw Error(file_ + ": cannot be written");
    failed_ += status == 200 ? 0 : 1;
    ++done_;
  }

  static std::string id_of(const Line& line) { return sha256_hex(line.custom_id).substr(0, 24); }

  const std::vector<Line> lines_;
  std::ofstream out_;
  const std::string file_;
  size_t next_ = 0, done_ = 0;
  int64_t failed_ = 0;
  std::vector<std::unique_ptr<Open>> open_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;  // under the mutex
  ServedModel model_;         // ends first: its scheduler still hands out events
};

int run(const BatchFlags& flags) {
  std::vector<Line> lines = read_requests(flags.in);
  const std::set<std::string> there = finished(flags.out);
  const size_t all = lines.size();
  std::erase_if(lines, [&](const Line& line) { return there.contains(line.custom_id); });
  const size_t left = lines.size();
  if (left == 0) {
    fmt::print(stderr, "all {} requests have their results\n", all);
    return 0;
  }
  const auto start = std::chrono::steady_clock::now();
  Run batch(flags, std::move(lines));
  batch.run();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const Scheduler::Stats stats = batch.stats();
  fmt::print(
      stderr,
      "{} requests | {} had results | {} failed | {} prompt tokens, {} of them cached | {} generated | "
      "{:.1f} tokens/s\n",
      left, all - left, batch.failed(), stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens,
      double(stats.generated_tokens) / seconds.count());
  return 0;
}

}  // namespace

void add_batch(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<BatchFlags>();
  CLI::App* command = app.add_subcommand("batch", "Answer a file of requests in OpenAI's batch format");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_context_flag(*command, flags->engine);
  add_flag_with_mirror(*command, "--in", flags->in, "Requests, one JSON object a line")->required();
  add_flag_with_mirror(*command, "--out", flags->out, "Results; those it holds already are kept")->required();
  add_served_model_flags(*command, flags->scheduler, flags->kv_memory, flags->served_name);
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
