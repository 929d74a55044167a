// fuzz: random lines of notation, each proved, moved and compared, and random worlds, each judged
// by every claim on a right bridge; failures are shrunk and saved as data files. Random adapters of
// such worlds are judged, and with a fault planted they must be refuted.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/shell.hpp"
#include "core/io/named_output.hpp"
#include "core/io/writer.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/fuzz/adapters.hpp"
#include "properties/attacks/fuzz/fuzz.hpp"
#include "properties/attacks/lines/line_loop.hpp"
#include "properties/attacks/mutants/museum.hpp"

namespace bv::cli {
namespace {

constexpr std::uint64_t kReplayBytesMax = std::uint64_t{1} << 20;
constexpr std::int64_t kSecondsDefault = 10;
constexpr double kShareOfLines = 0.2;
constexpr double kShareOfAdapters = 0.2;
constexpr std::int64_t kLinesBetweenLooks = 256;  // at the clock
constexpr std::int64_t kSavedMax = 20;            // of one run: later failures are counted only

/// What the claims said of a world, "" when nothing.
struct Judged {
  std::string said;
  Counterexample example;
};

Judged judged(const fuzz::Tools& tools, const Result<fuzz::Prepared>& prepared) {
  if (!prepared) {
    return {prepared.error().message, {}};
  }
  const auto findings = fuzz::judge(tools, *prepared);
  if (!findings) {
    return {findings.error().message, {}};
  }
  if (findings->empty()) {
    return {};
  }
  return {findings->front().claim + ": " + findings->front().title, findings->front().example};
}

Verdict verdict_about(std::string claim, std::string subject) {
  Verdict out;
  out.claim = std::move(claim);
  out.rule = "right_bridge";
  out.kind = "fuzz";
  out.megatron = std::move(subject);
  out.outcome = Outcome::Held;
  return out;
}

std::string rate(std::int64_t cases, double seconds, std::string_view what) {
  return fmt::format("{:.0f} {} a second", static_cast<double>(cases) / std::max(seconds, 1e-9),
                     what);
}

class Fuzz {
 public:
  Fuzz(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<Run> run() {
    run_.seed = options_.seed.value_or(1);
    if (!options_.replay.empty()) {
      BV_CHECK(replay());
      return std::move(run_);
    }
    BV_CHECK(load());
    const auto limit = static_cast<double>(options_.seconds.value_or(kSecondsDefault));
    BV_CHECK(draw_lines(limit * kShareOfLines));
    BV_CHECK(draw_worlds(limit * (1 - kShareOfLines - kShareOfAdapters)));
    draw_adapters(limit * kShareOfAdapters);
    if (const int signal = stop_requested(); signal != 0) {
      run_.stopped = true;
      run_.stop_signal = signal;
    }
    return std::move(run_);
  }

 private:
  Status load() {
    const ForwardModule module = load_forward();
    if (module.functions == nullptr) {
      return fail(Code::ModuleMissing, "fuzz needs the forward oracles: " + module.reason)
          .advise("install libtorch-dev and build again");
    }
    BV_TRY(library, mutants::load_library());
    BV_TRY(samples, mutants::builtin_samples());
    tools_ = {std::move(library), std::move(samples), {.forward = module.functions}};
    return Done{};
  }

  Status replay() {
    BV_TRY(text, io::read_file(options_.replay, kReplayBytesMax));
    if (text.find("\"line\"") != std::string::npos) {
      BV_TRY(line, lines::line_from_text(text, options_.replay));
      lines::LineRunner runner(run_.seed);
      Verdict verdict = lines_verdict();
      ++verdict.cases;
      const Status status = lines::check(runner, line);
      if (!status) {
        refute_line(verdict, line, status.error(), replay_of(options_.replay));
      }
      finish_claim(std::move(verdict), "the saved line");
      return Done{};
    }
    BV_CHECK(load());
    BV_TRY(world, fuzz::world_from_text(text, options_.replay));
    if (const auto known = mutants::find_sample(tools_.samples, world.sample); !known) {
      return known.error();
    }
    Verdict verdict = worlds_verdict();
    ++verdict.cases;
    Judged result = judged(tools_, fuzz::prepare(tools_, world));  // what cannot be made is refuted
    if (!result.said.empty()) {
      refute_world(verdict, world, std::move(result), replay_of(options_.replay));
    }
    finish_claim(std::move(verdict), "the saved world");
    return Done{};
  }

  Status draw_lines(double limit) {
    lines::LineLoop loop(run_.seed);
    Verdict verdict = lines_verdict();
    const double start = context_.seconds();
    while (context_.seconds() - start < limit && stop_requested() == 0) {
      for (std::int64_t i = 0; i < kLinesBetweenLooks; ++i) {
        ++verdict.cases;
        if (const auto fault = loop.next()) {
          const std::string text = lines::to_text(fault->line);
          BV_TRY(saved, save(verdict, "line", text));
          refute_line(verdict, fault->line, fault->error,
                      saved.empty() ? again(run_.seed) : replay_of(saved));
        }
      }
    }
    const double seconds = context_.seconds() - start;
    finish_claim(std::move(verdict),
                 fmt::format("{}, {} different lines, seed {}",
                             rate(loop.cases(), seconds, "cases"), loop.lines(), run_.seed));
    return Done{};
  }

  Status draw_worlds(double limit) {
    Verdict verdict = worlds_verdict();
    const double start = context_.seconds();
    for (std::uint64_t i = 0; context_.seconds() - start < limit && stop_requested() == 0; ++i) {
      ++verdict.cases;
      const fuzz::Draw draw = fuzz::draw_from(run_.seed + i);
      if (judged(tools_, fuzz::prepare(tools_, draw)).said.empty()) {
        continue;
      }
      const fuzz::Draw least = fuzz::shrink(draw, [&](const fuzz::Draw& candidate) {
        return !judged(tools_, fuzz::prepare(tools_, candidate)).said.empty();
      });
      const fuzz::World world = fuzz::world_of(tools_, least);
      BV_TRY(saved, save(verdict, "world", fuzz::to_text(world)));
      refute_world(verdict, world, judged(tools_, fuzz::prepare(tools_, least)),
                   saved.empty() ? again(run_.seed + i) : replay_of(saved));
    }
    const double seconds = context_.seconds() - start;
    const std::int64_t cases = verdict.cases;
    finish_claim(std::move(verdict),
                 rate(cases, seconds, "worlds") + fmt::format(", seed {}", run_.seed));
    return Done{};
  }

  /// The first draw of seed N is the draw of `fuzz --seed N`.
  void draw_adapters(double limit) {
    Verdict verdict = verdict_about("random_adapters", "correct adapters held, faulty ones not");
    verdict.evidence = {.proved = true, .bytes = true, .sampled = true};
    std::int64_t faults = 0;
    const double start = context_.seconds();
    for (std::uint64_t i = 0; context_.seconds() - start < limit && stop_requested() == 0; ++i) {
      const std::uint64_t seed = run_.seed + i;
      const auto prepared = fuzz::prepare(tools_, fuzz::draw_from(seed));
      const std::string said = prepared ? adapter_fault(*prepared, seed, verdict.cases, faults)
                                        : prepared.error().message;
      if (!said.empty() && verdict.refuted_cases++ == 0) {
        refute(verdict, "an adapter is judged wrongly: " + said, said,
               {prepared ? fuzz::to_text(prepared->world) : ""}, again(seed));
      }
    }
    finish_claim(std::move(verdict), fmt::format("{} planted faults, seed {}", faults, run_.seed));
  }

  /// What is wrong with the verdicts about the adapter of one world; "" when nothing.
  std::string adapter_fault(const fuzz::Prepared& prepared, std::uint64_t seed, std::int64_t& cases,
                            std::int64_t& faults) {
    const auto trial = fuzz::try_adapter(tools_, prepared, seed);
    if (!trial) {
      return trial.error().message;
    }
    cases += trial->drawn ? 1 : 0;
    std::string said = trial->said;
    for (const auto& [fault, seen] : trial->seen) {
      ++faults;
      if (seen.empty() && said.empty()) {
        said = fmt::format("{}, and nothing is refuted", fuzz::name(fault));
      }
    }
    return said;
  }

  static std::string replay_of(const std::string& file) {
    return "bridge-verify fuzz --replay " + shell_quoted(file);
  }
  /// Draws that case first, or in its turn, and saves it.
  static std::string again(std::uint64_t seed) {
    return fmt::format("bridge-verify fuzz --seed {} --out fuzz-{}", seed, seed);
  }

  /// The name of the file, "" when none is written.
  Result<std::string> save(const Verdict& verdict, std::string_view what, const std::string& text) {
    if (options_.out.empty() || verdict.refuted_cases >= kSavedMax) {
      return std::string();
    }
    std::string name = fmt::format("{}/{}-{}.json", options_.out, what, verdict.refuted_cases);
    BV_CHECK(io::write_named(name, text));
    return name;
  }

  static Verdict lines_verdict() {
    Verdict out = verdict_about("random_lines", "correct lines are not refuted");
    out.evidence = {.proved = true, .bytes = true, .sampled = true};
    return out;
  }
  static Verdict worlds_verdict() {
    Verdict out = verdict_about("random_worlds", "correct bridges are not refuted");
    out.evidence = {.bytes = true, .oracle = true, .sampled = true};
    return out;
  }

  void refute_line(Verdict& verdict, const lines::SavedLine& line, const Error& error,
                   const std::string& replay) {
    if (verdict.refuted_cases++ == 0) {
      refute(verdict, fmt::format("a right line is refuted: {}", error.message), error.message,
             {layout::print(line.rule), lines::to_text(line)}, replay);
    }
  }

  void refute_world(Verdict& verdict, const fuzz::World& world, Judged result,
                    const std::string& replay) {
    if (verdict.refuted_cases++ > 0) {
      return;
    }
    refute(verdict,
           fmt::format("a right bridge is refuted on {} {}: {}", world.sample,
                       parallel::layout_id(world.layout), result.said),
           result.said, {fuzz::to_text(world)}, replay);
    verdict.counterexamples = {std::move(result.example)};
  }

  static void refute(Verdict& verdict, std::string title, std::string found,
                     std::vector<std::string> facts, const std::string& replay) {
    verdict.outcome = Outcome::Refuted;
    verdict.evidence = {};
    verdict.code = Code::Counterexample;
    verdict.title = std::move(title);
    verdict.found = std::move(found);
    verdict.wanted = "no finding";
    verdict.facts = std::move(facts);
    verdict.help = replay;
    verdict.replay = replay;
  }

  void finish_claim(Verdict verdict, std::string note) {
    if (verdict.cases == 0 && verdict.outcome == Outcome::Held) {  // nothing was tried
      verdict.outcome = Outcome::Inconclusive;
      verdict.evidence = {};
      verdict.code = Code::Stopped;
      verdict.title = "stopped before the first case";
      verdict.help = "run it again";
    }
    ClaimSummary row;
    row.claim = verdict.claim;
    row.title = verdict.megatron;
    row.subjects = verdict.cases;
    row.note = std::move(note);
    row.noun = verdict.claim == "random_lines"    ? "lines"
               : verdict.claim == "random_worlds" ? "worlds"
                                                  : "adapters";
    run_.claims.push_back(std::move(row));
    run_.verdicts.push_back(std::move(verdict));
  }

  Context& context_;
  const Options& options_;
  fuzz::Tools tools_;
  Run run_;
};

}  // namespace

int run_fuzz(Context& context, const Options& options) {
  auto run = Fuzz(context, options).run();
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return report_and_finish(context, options, *run);
}

}  // namespace bv::cli
