// Every option that a command takes changes something there: rows of option_effects.txt.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "ci/cli/command.hpp"
#include "ci/cli/options/options.hpp"
#include "core/base/text.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::run_line;
using testing::TempFolder;
using testing::write_text;
using Texts = std::vector<std::string>;

/// jobs: results are equal on any number of threads; OptionEffects.JobsLimitTheThreads counts them.
const std::set<std::string> kOfNoResult = {"jobs"};

struct Row {
  std::string option, command, added, line, variable;
};

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? ""
                                    : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

Texts columns_of(const std::string& line) {
  Texts out;
  for (std::size_t at = 0; at <= line.size();) {
    const std::size_t end = std::min(line.find(" | ", at), line.size());
    out.push_back(trimmed(line.substr(at, end - at)));
    at = end + 3;
  }
  return out;
}

/// "check", "rules:lint", ...: what an option can belong to.
Texts command_keys() {
  Texts out;
  for (const Command& command : commands()) {
    if (command.name.name.starts_with("__")) {
      continue;
    }
    const Texts verbs = words_of(command.name.verbs);
    if (verbs.empty()) {
      out.emplace_back(command.name.name);
    }
    for (const std::string& verb : verbs) {
      out.push_back(std::string(command.name.name) + ":" + verb);
    }
  }
  return out;
}

std::vector<Row> read_rows() {
  std::vector<Row> out;
  std::map<std::string, std::string> bases;
  std::istringstream text(support::file_text(fs::path(BV_ROOT) / "tests/ci/option_effects.txt"));
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    Texts columns = columns_of(line);
    if (columns[0] == "base") {
      for (const std::string& key : words_of(columns[1])) {
        bases[key] = columns[2];
      }
      continue;
    }
    columns.resize(5);
    for (const std::string& option : words_of(columns[0])) {
      const OptionSpec* spec = find_option(option);
      EXPECT_NE(spec, nullptr) << option;
      Texts keys = words_of(columns[1]);
      if (columns[1] == "*") {
        keys = command_keys();
        std::erase_if(keys, [&](const std::string& key) { return !usable_by(*spec, key); });
      }
      for (const std::string& key : keys) {
        std::string base = columns[3].empty() ? "++" : columns[3];
        if (base.starts_with("++")) {
          base.replace(0, 2, bases[key]);
        }
        out.push_back({option, key, columns[2], base, columns[4]});
      }
    }
  }
  return out;
}

/// The files that the rows name in braces.
class Places {
 public:
  Places() {
    made("llama", "llama");
    made("other", "llama", {"--seed", "9"});
    made("qwen3", "qwen3");
    made("qwen3_5", "qwen3_5");
    made("moe", "qwen3_moe");
    made("mtp", "glm4_moe/mtp");
    made("square", "qwen3_vl_moe/packed", {"--set", "text_config.moe_intermediate_size=20"});
    converted("shards", "llama", {"--tp", "2"});
    converted("stages", "llama", {"--pp", "2"});
    converted("qwen3 shards", "qwen3");
    converted("qwen3_5 shards", "qwen3_5");
    converted("moe shards", "moe", {"--ep", "2"});
    converted("mtp shards", "mtp");
    converted("square shards", "square", {"--expert-orientation", "out_in"});
    own_family();
    headers_and_reports();
    damaged_models();
    small_files();
  }

  [[nodiscard]] std::string filled(std::string text, const Row& row) const {
    const std::size_t colon = row.command.find(':');
    std::map<std::string, std::string> all = at_;
    all["fixtures"] = BV_FIXTURES;
    all["option"] = row.option;
    all["command"] = row.command.substr(0, colon);
    all["verb"] = colon == std::string::npos ? "" : row.command.substr(colon + 1);
    all["out"] = (work() / "out").string();
    all["earlier"] = (work() / "earlier").string();
    all["begun"] = (work() / "begun").string();
    for (const auto& [name, value] : all) {
      const std::string word = "{" + name + "}";
      for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.replace(at, word.size(), value);
      }
    }
    return text;
  }

  /// The folder that a line writes to, as it is before each.
  void renew() const {
    fs::remove_all(work());
    fs::create_directories(work());
    fs::copy(at_.at("llama"), work() / "earlier", fs::copy_options::recursive);
    fs::create_directories(work() / "begun.bv-partial");
    write_text(work() / "begun.bv-partial/.bv-run", "");
    write_text(work() / "begun.bv-partial/pp0_tp0_ep0_etp0.safetensors", "half");
  }
  [[nodiscard]] fs::path work() const { return folder_.path() / "work"; }

 private:
  fs::path place(const std::string& name) {
    std::string file = name;
    std::replace(file.begin(), file.end(), ' ', '-');
    at_[name] = (folder_.path() / file).string();
    return at_[name];
  }
  static void ran(Texts line, int code = 0) {
    const auto ended = run_line(line);
    EXPECT_EQ(ended.code, code) << join(line, " ") << "\n" << ended.out << ended.err;
  }
  void made(const std::string& name, const std::string& fixture, const Texts& more = {}) {
    Texts line = {"fixture", "make", fixture, "--out", place(name)};
    line.insert(line.end(), more.begin(), more.end());
    ran(line);
  }
  void converted(const std::string& name, const std::string& model, const Texts& more = {}) {
    Texts line = {"convert", "--to",      "megatron",  "--model", at_[model],
                  "--out",   place(name), "--fail-on", "refuted"};
    line.insert(line.end(), more.begin(), more.end());
    ran(line);
  }
  fs::path copied(const std::string& name, const std::string& of) {
    fs::copy(at_[of], place(name), fs::copy_options::recursive);
    return at_[name];
  }
  static void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
    std::string text = support::file_text(file);
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << file << " has no " << from;
    write_text(file, text.replace(at, from.size(), to));
  }

  void own_family() {
    const fs::path families = place("families");
    fs::create_directories(families);
    fs::copy(fs::path(BV_ROOT) / "core/families/llama.json", families / "own.json");
    replace_in(families / "own.json", "\"llama\"", "\"own\"");
    replace_in(families / "own.json", "LlamaForCausalLM", "OwnForCausalLM");
    replace_in(families / "own.json", "\"model_types\": [\"llama\"", "\"model_types\": [\"own\"");
    const fs::path model = copied("own", "llama");
    replace_in(model / "config.json", "LlamaForCausalLM", "OwnForCausalLM");
    replace_in(model / "config.json", "\"model_type\": \"llama\"", "\"model_type\": \"own\"");
    converted("own shards", "own", {"--families", at_["families"]});
  }

  void headers_and_reports() {
    at_["headers"] = (folder_.path() / "h.headers.json").string();
    ran({"inspect", "--model", "fixture:llama", "--dump-headers", at_["headers"]});
    const auto report = [this](const std::string& name, Texts line, int code) {
      line.insert(line.end(), {"--out", place(name + " run")});
      ran(line, code);
      at_[name] = at_[name + " run"] + "/verdicts.json";
    };
    report("green", {"check", "--model", "fixture:qwen3", "--tp", "1"}, 0);
    report("red", {"check", "--model", "fixture:qwen3", "--tp", "1", "--rules", swapped()}, 1);
    report("whole", {"check", "--model", "fixture:llama"}, 0);
  }

  void damaged_models() {
    const fs::path two = copied("two", "llama");  // two checkpoints in one folder
    fs::copy(two / "model-00001-of-00002.safetensors", two / "model.safetensors");
    fs::create_symlink(fs::path(BV_ROOT) / "README.md", copied("linked", "llama") / "extra.txt");
    const fs::path trained = copied("trained", "shards") / "pp0_tp0_ep0_etp0.safetensors";
    std::string bytes = support::file_text(trained);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    write_text(trained, bytes);
  }

  void small_files() {
    const auto file = [this](const std::string& name, const std::string& text) {
      write_text(place(name), text);
    };
    at_["line"] = std::string(BV_FIXTURES) + "/regress/worlds/line_copies_parted_by_the_cut.json";
    file("wrong line", R"({"line": "a x[(t o)] -> x[o]", "axes": {"t": 2, "o": 3}})");
    file("waivers",
         "[[waiver]]\ncode = \"BV2006\"\nsubject = \"decoder.layers.*.mlp.linear_fc1.weight\"\n"
         "reason = \"known\"\nissue = \"https://example.org/1\"\nexpires = 2026-06-01\n"
         "[[waiver]]\ncode = \"BV3001\"\nsubject = \"model.layers.*\"\n"
         "reason = \"known\"\nissue = \"https://example.org/1\"\nexpires = 2026-06-01\n");
    file("warned", R"({"schema": "bridge-rules/1", "upstream": {"bridge_class": "B"}, "valus": 1,
      "rules": [{"class": "AutoMapping", "megatron": "a.weight", "hf": "b.weight"}]})");
  }
  static std::string swapped() {
    return std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json";
  }

  TempFolder folder_;
  std::map<std::string, std::string> at_;
};

/// JSON without what repeats the command line, or is of the machine.
Json without_echo(Json json) {
  if (json.is_object()) {
    for (const char* key : {"replay", "next", "argv", "settings", "run", "out", "waivers"}) {
      json.erase(key);
    }
  }
  for (Json& part : json.is_structured() ? json : Json::array()) {
    part = without_echo(part);
  }
  return json;
}

/// Text without the lines that repeat the command line.
std::string without_echo(const std::string& text) {
  if (text.starts_with('{') && Json::accept(text)) {
    return without_echo(Json::parse(text)).dump();
  }
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    const std::string told = trimmed(line);
    const bool echo = told.starts_with("= replay") || told.starts_with("next ") ||
                      line.find("cases/s") != std::string::npos;
    out += echo ? "" : line + "\n";
  }
  return out;
}

struct Effect {
  int code = 0;
  std::string out, err;
  std::map<std::string, std::string> files;
  bool operator==(const Effect&) const = default;
};

/// What a line does, in a folder of its own.
class Runner {
 public:
  Effect effect_of(const std::string& line, const std::string& variable) {
    const auto known = known_.find(line + "\n" + variable);
    if (known != known_.end()) {
      return known->second;
    }
    places_.renew();
    Environment environment = {{"LANG", "C.UTF-8"}, {"HF_HOME", places_.work().string()}};
    if (const std::size_t equals = variable.find('='); equals != std::string::npos) {
      environment[variable.substr(0, equals)] = variable.substr(equals + 1);
    }
    const auto ended = run_line(words_of(line), environment);
    Effect out{ended.code, without_echo(ended.out), without_echo(ended.err), {}};
    for (const std::string& file : support::files_below(places_.work())) {
      out.files[file] = without_echo(support::file_text(places_.work() / file));
    }
    return known_[line + "\n" + variable] = std::move(out);
  }
  [[nodiscard]] const Places& places() const { return places_; }

 private:
  Places places_;
  std::map<std::string, Effect> known_;
};

std::string named(const Row& row) {
  return "--" + row.option + " of " + row.command;
}

TEST(OptionEffects, EveryOptionOfEveryCommandHasARow) {
  std::set<std::string> there;
  for (const Row& row : read_rows()) {
    there.insert(named(row));
  }
  std::size_t pairs = 0;
  for (const OptionSpec& spec : option_specs()) {
    for (const std::string& key : command_keys()) {
      const std::string name(spec.name);
      if (!spec.listed || !spec.not_built.empty() || !usable_by(spec, key) ||
          kOfNoResult.contains(name)) {
        continue;
      }
      ++pairs;
      EXPECT_TRUE(there.contains(named({name, key, "", "", ""})))
          << "no line of tests/ci/option_effects.txt shows what --" << name << " does in " << key;
    }
  }
  EXPECT_EQ(pairs, there.size()) << "a row of an option that its command cannot use";
}

/// An option that changes nothing is to be refused: take the command out of its row in
/// ci/cli/options/option_table.cpp.
TEST(OptionEffects, EveryOptionChangesWhatItsLineDoes) {
  Runner runner;
  for (const Row& row : read_rows()) {
    const std::string without = runner.places().filled(row.line, row);
    const std::string with = without + " " + runner.places().filled(row.added, row);
    EXPECT_FALSE(runner.effect_of(without, row.variable) == runner.effect_of(with, row.variable))
        << named(row) << " changes nothing in\n  bridge-verify " << without << "\n  bridge-verify "
        << with << "\n"
        << runner.effect_of(with, row.variable).err;
  }
}

/// Threads of this process at most while `line` runs, beside those before it.
std::size_t threads_of(const Texts& line) {
  const auto count = [] {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/task"), {}));
  };
  std::atomic<bool> done = false;
  std::atomic<std::size_t> most = 0;
  const std::size_t before = count();
  std::thread watch([&] {
    while (!done) {
      most = std::max(most.load(), count());
    }
  });
  const auto ended = run_line(line);
  done = true;
  watch.join();
  EXPECT_EQ(ended.code, 0) << join(line, " ") << ended.err;
  return most - before - 1;
}

TEST(OptionEffects, JobsLimitTheThreads) {
  const TempFolder folder;
  const std::string out = (folder.path() / "m").string();
  ASSERT_EQ(run_line({"fixture", "make", "llama", "--out", out, "--set", "vocab_size=60000"}).code,
            0);
  for (const Texts& line :
       {Texts{"roundtrip", "--model", out}, Texts{"check", "--level", "data", "--model", out}}) {
    Texts one = line;
    one.insert(one.end(), {"--jobs", "1"});
    Texts six = line;
    six.insert(six.end(), {"--jobs", "6"});
    EXPECT_LT(threads_of(one), 3U) << join(line, " ");
    EXPECT_GT(threads_of(six), 4U) << join(line, " ");
  }
}

}  // namespace
}  // namespace bv::cli
