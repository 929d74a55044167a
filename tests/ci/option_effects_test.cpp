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
#include "tests/ci/option_places.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using option_effects::Places;
using option_effects::Row;
using option_effects::Texts;
using testing::run_line;
using testing::TempFolder;

/// jobs: results are equal on any number of threads; OptionEffects.JobsLimitTheThreads counts them.
/// patience: tests/e2e/world_test.cpp waits that long for processes that do not come.
/// collectives: the bytes are the same; tests/e2e/collectives_test.cpp runs it without a GPU, and
/// with a library that plays one. replay: without it fuzz draws as long as it is told;
/// tests/e2e/fuzz_test.cpp replays.
const std::set<std::string> kOfNoResult = {"collectives", "jobs", "patience", "replay"};

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
  const std::string all = support::file_text(fs::path(BV_ROOT) / "tests/ci/option_effects.txt");
  std::set<std::pair<std::string, std::string>> own;  // rows that name option and command
  std::istringstream first(all);
  for (std::string line; std::getline(first, line);) {
    const Texts columns = columns_of(line);
    for (const std::string& option : words_of(columns[0])) {
      for (const std::string& key : columns.size() > 1 ? words_of(columns[1]) : Texts{}) {
        own.emplace(option, key);
      }
    }
  }
  std::istringstream text(all);
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
        std::erase_if(keys, [&](const std::string& key) {
          return !usable_by(*spec, key) || own.contains({option, key});
        });
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

/// A part of the commands: parts run beside each other.
class OptionEffectsOf : public ::testing::TestWithParam<std::size_t> {
 protected:
  static constexpr std::size_t kParts = 4;

  [[nodiscard]] static bool is_mine(const std::string& command) {
    const Texts keys = command_keys();
    const auto at = std::find(keys.begin(), keys.end(), command) - keys.begin();
    return static_cast<std::size_t>(at) % kParts == GetParam();
  }
};

/// An option that changes nothing is to be refused: take the command out of its row in
/// ci/cli/options/option_table.cpp.
TEST_P(OptionEffectsOf, EveryOptionChangesWhatItsLineDoes) {
  Runner runner;
  for (const Row& row : read_rows()) {
    if (!is_mine(row.command)) {
      continue;
    }
    const std::string without = runner.places().filled(row.line, row);
    const std::string with = without + " " + runner.places().filled(row.added, row);
    const Effect before = runner.effect_of(without, row.variable);
    const Effect after = runner.effect_of(with, row.variable);
    EXPECT_FALSE(before == after) << named(row) << " changes nothing in\n  bridge-verify "
                                  << without << "\n  bridge-verify " << with << "\n"
                                  << after.err;
    // A claim that judged fewer or more subjects than it counted ends the run with 4.
    EXPECT_NE(before.code, 4) << without << "\n" << before.out << before.err;
    EXPECT_NE(after.code, 4) << with << "\n" << after.out << after.err;
  }
}
INSTANTIATE_TEST_SUITE_P(Part, OptionEffectsOf, ::testing::Range<std::size_t>(0, 4));

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
    const std::size_t few = threads_of(one);
    EXPECT_LT(few, 3U) << join(line, " ");
    EXPECT_GT(threads_of(six), few) << join(line, " ");
  }
}

}  // namespace
}  // namespace bv::cli
