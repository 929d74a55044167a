// fuzz: random worlds, each judged by every claim on a right bridge; failures are saved as data
// files.

#include <fmt/format.h>

#include <algorithm>

#include "ci/command.hpp"
#include "ci/finish.hpp"
#include "ci/session.hpp"
#include "ci/signals.hpp"
#include "core/io/writer.hpp"
#include "properties/fuzz/fuzz.hpp"

namespace bv::cli {
namespace {

constexpr std::uint64_t kReplayBytesMax = std::uint64_t{1} << 20;
constexpr std::int64_t kSecondsDefault = 10;

struct Found {
  std::int64_t cases = 0;
  std::vector<std::pair<fuzz::World, std::string>> failures;  // with what was said
};

/// One world; what the claims said of it, "" when nothing.
std::string judged(const fuzz::Tools& tools, const fuzz::World& world, Counterexample& example) {
  const auto findings = fuzz::judge(tools, world);
  if (!findings) {
    return findings.error().message;
  }
  if (findings->empty()) {
    return "";
  }
  example = findings->front().example;
  return findings->front().claim + ": " + findings->front().title;
}

class Fuzz {
 public:
  Fuzz(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<Run> run() {
    const OracleModule module = load_oracles(context_);
    if (module.entry == nullptr) {
      return fail(Code::NoTargetLayout, "fuzz needs the oracles: " + module.reason)
          .advise("put bv_oracles.so beside the command, or build with libtorch-dev");
    }
    BV_TRY(library, mutants::load_library());
    BV_TRY(samples, mutants::builtin_samples());
    tools_ = {std::move(library), std::move(samples), *module.entry};
    run_.seed = options_.seed.value_or(1);
    verdict_.claim = "random_worlds";
    verdict_.rule = "right_bridge";
    verdict_.kind = "fuzz";
    verdict_.megatron = "every claim on a right bridge";
    verdict_.outcome = Outcome::Held;
    verdict_.evidence = {.bytes = true, .oracle = true, .sampled = true};
    BV_CHECK(options_.replay.empty() ? draw_worlds() : replay());
    run_.claims.push_back(
        {verdict_.claim, "no false alarm on valid worlds", verdict_.cases, "", true});
    run_.verdicts.push_back(std::move(verdict_));
    return std::move(run_);
  }

 private:
  Status replay() {
    BV_TRY(text, io::read_file(options_.replay, kReplayBytesMax));
    BV_TRY(world, fuzz::world_from_text(text, options_.replay));
    return judge(world, options_.replay);
  }

  Status draw_worlds() {
    const auto limit = static_cast<double>(options_.seconds.value_or(kSecondsDefault));
    const double start = context_.seconds();
    for (std::uint64_t i = 0; context_.seconds() - start < limit && stop_requested() == 0; ++i) {
      BV_TRY(world, fuzz::world_of(tools_, fuzz::draw_from(run_.seed + i)));
      BV_CHECK(judge(world, ""));
    }
    run_.stopped = stop_requested() != 0;
    return Done{};
  }

  Status judge(const fuzz::World& world, const std::string& file) {
    ++verdict_.cases;
    Counterexample example;
    const std::string said = judged(tools_, world, example);
    if (said.empty()) {
      return Done{};
    }
    std::string saved = file;
    if (file.empty() && !options_.out.empty()) {
      saved = fmt::format("{}/world-{}.json", options_.out, verdict_.refuted_cases);
      BV_CHECK(io::write_file(saved, fuzz::to_text(world)));
    }
    if (verdict_.refuted_cases++ == 0) {
      verdict_.outcome = Outcome::Refuted;
      verdict_.evidence = {};
      verdict_.code = Code::Counterexample;
      verdict_.title =
          fmt::format("a right bridge is refuted on {} {}: {}", world.sample, world.layout, said);
      verdict_.found = said;
      verdict_.wanted = "no finding";
      verdict_.facts = {fuzz::to_text(world)};
      verdict_.help = saved.empty() ? "run it again with --out DIR to save the world"
                                    : "bridge-verify fuzz --replay " + saved;
      verdict_.replay = verdict_.help;
      verdict_.counterexamples = {std::move(example)};
    }
    return Done{};
  }

  Context& context_;
  const Options& options_;
  fuzz::Tools tools_;
  Verdict verdict_;
  Run run_;
};

}  // namespace

int run_fuzz(Context& context, const Options& options) {
  auto run = Fuzz(context, options).run();
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return finish(context, options, *run);
}

}  // namespace bv::cli
