// report FORMAT FILE..., report merge, report diff: renderings of runs that were stored.

#include <fmt/format.h>

#include <algorithm>

#include "ci/cli/command.hpp"
#include "ci/cli/session/in_checkout.hpp"
#include "ci/cli/session/report_file.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/named_output.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/changes.hpp"
#include "core/verdict/gather.hpp"
#include "core/verdict/merge.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "reports/change_table.hpp"
#include "reports/formats.hpp"

namespace bv::cli {
namespace {

constexpr std::uint64_t kVerdictsBytesMax = std::uint64_t{1} << 30;

Result<Run> read_run(const std::string& path) {
  BV_TRY(text, io::read_file(path, kVerdictsBytesMax, Code::VerdictsInvalid));
  auto run = read_verdicts_json(text, path);
  if (run) {
    run->verdicts = gathered(std::move(run->verdicts));
  }
  return run;
}

Result<std::vector<Run>> read_runs(const Options& options) {
  std::vector<Run> out;
  for (std::size_t i = 1; i < options.operands.size(); ++i) {
    BV_TRY(run, read_run(options.operands[i]));
    out.push_back(std::move(run));
  }
  if (out.empty()) {
    return fail(Code::BadValue,
                fmt::format("report {} needs a verdicts.json", escaped(options.operands.front())))
        .advise("bridge-verify report " + shell_quoted(options.operands.front()) +
                " verdicts.json");
  }
  return out;
}

Error unknown_format(const std::string& word) {
  std::vector<std::string> names = {"merge", "diff"};
  for (const reports::Format& format : reports::formats()) {
    names.emplace_back(format.name);
  }
  const auto near = nearest(word, names);
  return fail(Code::BadValue, word.empty()
                                  ? std::string("report needs a format and a file")
                                  : fmt::format("there is no report \"{}\"", escaped(word)))
      .pair(word.empty() ? "nothing" : escaped(word), "one of " + join(names, ", "))
      .advise("bridge-verify report " + near.value_or("html") + " verdicts.json");
}

/// To --out FILE by rename, or to stdout.
Status deliver(Context& context, const Options& options, std::string_view text) {
  if (options.out.empty()) {
    context.streams.out(text);
    return Done{};
  }
  const reports::Format* format = reports::find_format(options.operands.front());
  BV_CHECK(check_report_file(options, options.out, format == nullptr ? kAnyReport : format->name));
  return io::write_named(options.out, text);
}

Result<int> report_diff(Context& context, const Options& options) {
  BV_TRY(runs, read_runs(options));
  if (runs.size() != 2) {
    return fail(Code::BadValue, fmt::format("report diff needs two files, not {}", runs.size()))
        .advise("bridge-verify report diff BEFORE.json AFTER.json");
  }
  BV_CHECK(deliver(context, options,
                   reports::render_changes(runs[0], runs[1],
                                           style_for(context, options, context.out_is_terminal))));
  const std::vector<Changed> all = changes(runs[0], runs[1]);
  const bool worse = std::any_of(all.begin(), all.end(), [](const Changed& one) {
    const bool was_green = one.before != nullptr && (one.before->outcome == Outcome::Proved ||
                                                     one.before->outcome == Outcome::Held);
    return one.change <= Change::EvidenceLost ||
           (one.change == Change::NewlyUndecided && was_green);
  });
  return options.fail_on_new && worse ? 1 : 0;
}

Result<int> render_stored(Context& context, const Options& options) {
  const std::string word = options.operands.empty() ? "" : options.operands.front();
  if (word == "diff") {
    return report_diff(context, options);
  }
  const bool merges = word == "merge";
  const reports::Format* format = reports::find_format(merges ? "json" : word);
  if (format == nullptr) {
    return unknown_format(word);
  }
  BV_TRY(runs, read_runs(options));
  BV_TRY(run, merge(std::move(runs)));
  run.verdicts = gathered(std::move(run.verdicts));
  if (!options.baseline.empty()) {
    BV_TRY(before, read_run(options.baseline));
    run.baseline = baseline_of(before, run, options.baseline);
  }
  BV_CHECK(deliver(context, options,
                   format->render(InCheckout(run, context.folder).for_form(*format),
                                  style_for(context, options, context.out_is_terminal))));
  return merges ? conclude(run).exit_code : 0;
}

}  // namespace

int run_report(Context& context, const Options& options) {
  const auto code = render_stored(context, options);
  return code ? *code : report_error(context, options, code.error());
}

}  // namespace bv::cli
