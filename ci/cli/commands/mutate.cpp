// mutate [FAMILY|SAMPLE ...]: plants every fault of every operator into tiny bridges and shows
// which claim sees it, beside what the upstream-style gate sees of the same faults.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/oracle_module.hpp"
#include "ci/cli/session/report_file.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"
#include "core/io/named_output.hpp"
#include "properties/attacks/fuzz/adapter_matrix.hpp"
#include "properties/attacks/mutants/matrix.hpp"
#include "reports/mutation_table.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kPage =
    R"(# The kill matrix

Written by `bridge-verify __dump-mutants docs/reference/mutants.md`; the same numbers are in
`mutation` of the `verdicts.json` of `bridge-verify mutate` without operands, whatever the number
of threads.

A mutant is one fault of one operator, planted into one rule of a tiny right bridge, on one layout.
Sides: the import alone, both ways in the same manner `(2)`, the export alone `(back)`. It is
*killed* when at least one claim is refuted; one mutant counts in the column of every claim that
sees it, and once under the cheapest level that does (text: the rules alone; headers: names, shapes,
places; data: the elements). It is *equivalent* when it is proved to do what the right bridge does
on that layout: every element carries its tag to the same place, there and back, and the arithmetic
is the same. Unless the rule itself is the reason (`fixed axis`: the line has an axis of size 1),
another layout or sample of the family must kill the same mutant. The rest *survived*, and the
command exits 1.

The claim `forward` computes the whole model twice in float64, from the checkpoint and from the
shards that the faulty bridge left behind (`oracles/forward`). It is asked of every mutant of a
model that has a forward form (`forward asked of`); a fault of the export alone leaves it whole.

The rows `adapter:` are faults of exporters of LoRA adapters, planted into three random adapters of
each place. `adapter-refused` is not a claim: weights and config do not belong together, and nothing is
asked of them; `adapter-same` holds the faulty adapter against the right one. Equivalent is there:
the fault changes no byte, as another order of one row.

Beside the others, run on the same mutants: what a round trip turns red that passes a tensor within
0.1 + 1e-5 |b|, as the upstream script does, on weights of standard deviation 0.006, 0.02 and 0.03.
Equivalent mutants are left out there.

)";

/// The operators of --operators; all when there are none. Errors: BadValue.
Result<std::vector<mutants::Operator>> operators_of(const Options& options) {
  std::vector<mutants::Operator> out;
  for (const std::string& word : options.operators) {
    const auto op = mutants::operator_from_name(word);
    if (!op) {
      std::vector<std::string> names;
      names.reserve(mutants::kOperators);
      for (int i = 0; i < mutants::kOperators; ++i) {
        names.emplace_back(mutants::name(static_cast<mutants::Operator>(i)));
      }
      const auto near = nearest(word, names);
      return fail(Code::BadValue, "there is no mutation operator " + escaped(word))
          .pair(escaped(word), "one of: " + join(names, " "))
          .advise(near ? "did you mean " + *near + "?" : "choose one of them");
    }
    out.push_back(*op);
  }
  return out;
}

struct Mutated {
  mutants::Matrix matrix;
  bool whole = false;  // every layout and operator was looked at
};

Result<Mutated> plant(Context& context, const Options& options) {
  BV_TRY(operators, operators_of(options));
  BV_TRY(samples, mutants::builtin_samples());
  BV_TRY(places, mutants::places_of(samples, options.operands, options.layout));
  const ForwardModule module = load_forward();
  if (module.functions == nullptr) {
    return fail(Code::ModuleMissing, "mutate needs the forward oracles: " + module.reason)
        .advise("install libtorch-dev and build again");
  }
  BV_TRY(library, mutants::load_library());
  CommandProgress progress(context, options);
  progress.start("mutants", 0, places.size());
  mutants::MatrixOptions how;
  how.seed = options.seed.value_or(1);
  how.jobs = jobs_of(options);
  how.wanted = [&](const mutants::Place&, const mutants::Mutant& mutant) {
    return operators.empty() ||
           std::find(operators.begin(), operators.end(), mutant.op) != operators.end();
  };
  how.progress = [&](const mutants::Place& place) {
    progress.advance(0, 1, place.sample.name);
    return stop_requested() == 0;
  };
  how.stopped = [] { return stop_requested() != 0; };
  BV_TRY(matrix, mutants::run_matrix(library, places, {.forward = module.functions}, how));
  return Mutated{std::move(matrix), options.operands.empty() && options.layout.empty()};
}

/// Adapters of every place, with the faults that exporters made: each must be seen.
Result<fuzz::AdapterMatrix> plant_into_adapters(const Context& context, const Options& options) {
  BV_TRY(samples, mutants::builtin_samples());
  BV_TRY(places, mutants::places_of(samples, options.operands, options.layout));
  BV_TRY(library, mutants::load_library());
  const fuzz::Tools tools{std::move(library), std::move(samples), {}};
  fuzz::AdapterMatrixOptions how;
  how.seed = options.seed.value_or(1);
  how.jobs = jobs_of(options);
  how.stopped = [] { return stop_requested() != 0; };
  BV_TRY(place, make_private_folder(context, "ranks"));
  how.folder = place.folder / "ranks";
  return fuzz::run_adapter_matrix(tools, places, how);
}

void add_adapters(const fuzz::AdapterMatrix& matrix, Run& run) {
  std::int64_t cases = 0;
  for (Verdict& verdict : fuzz::verdicts_of(matrix)) {
    cases += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  run.claims.push_back({"adapter-mutants", "every fault of an adapter is seen", cases, "", true});
  fuzz::add_rows(matrix, *run.mutation);
}

Result<Run> mutate(Context& context, const Options& options) {
  if (!options.survivors.empty()) {  // before minutes of work
    BV_CHECK(check_report_file(options, options.survivors, kSurvivors));
  }
  BV_TRY(found, plant(context, options));
  if (!options.survivors.empty()) {
    BV_CHECK(
        io::write_named(options.survivors, mutants::survivors_text(found.matrix, found.whole)));
  }
  Run run;
  run.seed = options.seed.value_or(1);
  run.claims.push_back({"mutants", "every planted fault is seen or proved equivalent",
                        found.matrix.mutants, "", true});
  run.verdicts = mutants::verdicts_of(found.matrix, found.whole, "bridge-verify mutate");
  run.mutation = mutants::mutation_of(found.matrix, found.whole);
  if (options.operators.empty()) {
    BV_TRY(adapters, plant_into_adapters(context, options));
    add_adapters(adapters, run);
  }
  return run;
}

}  // namespace

int run_mutate(Context& context, const Options& options) {
  auto run = mutate(context, options);
  if (!run) {
    return report_error(context, options, run.error());
  }
  stamp(context, options, *run);
  return report_and_finish(context, options, *run);
}

int run_dump_mutants(Context& context, const Options& options) {
  if (options.operands.size() != 1) {
    return report_error(context, options,
                        fail(Code::BadValue, "__dump-mutants needs one FILE")
                            .advise("bridge-verify __dump-mutants docs/reference/mutants.md"));
  }
  auto found = plant(context, Options{});
  if (!found) {
    return report_error(context, options, found.error());
  }
  Mutation mutation = mutants::mutation_of(found->matrix, found->whole);
  const auto adapters = plant_into_adapters(context, Options{});
  if (!adapters) {
    return report_error(context, options, adapters.error());
  }
  fuzz::add_rows(*adapters, mutation);
  const std::string text = fmt::format("{}{} places (a sample on a layout).\n\n{}", kPage,
                                       mutation.places, reports::mutation_markdown(mutation));
  if (auto status = io::write_named(options.operands.front(), text); !status) {
    return report_error(context, options, status.error());
  }
  return 0;
}

}  // namespace bv::cli
