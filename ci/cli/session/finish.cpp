#include "ci/cli/session/finish.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "ci/cli/build_info.hpp"
#include "ci/cli/options/command_text.hpp"
#include "ci/cli/session/in_checkout.hpp"
#include "ci/cli/session/report_file.hpp"
#include "ci/cli/session/report_output.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/named_output.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/gather.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "core/verdict/waive.hpp"
#include "reports/error_text.hpp"
#include "reports/formats.hpp"
#include "reports/text.hpp"

namespace bv::cli {
namespace {

constexpr std::uint64_t kWaiversBytesMax = std::uint64_t{1} << 20;

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "unknown";
}

std::uint64_t peak_bytes() {
  rusage usage{};
  return ::getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U
                                               : 0;
}

/// What stdout is for: --json, --format, or a --report that goes there.
const reports::Format& stdout_format(const Context& context, const Options& options) {
  for (const reports::Wanted& one : context.gate.reports) {
    if (one.file == "-") {
      return *one.format;
    }
  }
  const reports::Format* format = reports::find_format(options.format);
  return format == nullptr ? *reports::find_format("text") : *format;
}

Run run_of(const Context& context, const Options& options, const Error& error) {
  Run run;
  stamp(context, options, run);
  if (error.code == Code::Stopped) {
    run.stopped = true;
    run.stop_signal = stop_requested() == 0 ? 2 : stop_requested();
    run.notes.push_back(error.message);
  } else {
    run.input_errors.push_back(error);
  }
  return run;
}

void print_run(Context& context, const Options& options, const Run& run, bool reports_lost) {
  const reports::Format& format = stdout_format(context, options);
  reports::TextStyle style = style_for(context, options, context.out_is_terminal);
  style.header = !context.header_shown;
  style.reports_lost = reports_lost;
  style.told = reports_lost ? 1 : 0;
  if (format.name == "text" && run.claims.empty() && run.verdicts.empty()) {
    style.verbosity = std::min(style.verbosity, -1);  // an error's block went to stderr
    const bool silent = style.verbosity <= -2;
    const std::string line = style.person ? short_last_line(run) : last_line(run);
    context.streams.out(silent ? "" : (context.header_shown ? "\n" : "") + line + "\n");
    return;
  }
  context.streams.out(format.render(InCheckout(run, context.folder).for_form(format), style));
}

/// Appends to a file that others write too: the summary of a job.
Status append_file(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::app);
  file << text;
  file.flush();
  return file ? Status(Done{})
              : Status(fail(Code::CannotWrite, "cannot append to " + escaped(path))
                           .advise("leave --ci out, or see to it that the file can be written"));
}

/// Does a service say with this variable that it runs the job? Tools that stand in for one, and
/// scripts, say "false".
bool is_on(const Context& context, std::string_view name) {
  std::string text(variable(context.environment, name));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 5> kNo = {"", "0", "false", "no", "off"};
  return std::find(kNo.begin(), kNo.end(), text) == kNo.end();
}

/// What a CI service reads beside the reports: a summary of the job, and findings beside the lines
/// of a change. Both go where they cannot be taken for the result on stdout.
void tell_ci(Context& context, const Options& options, const Run& run) {
  const bool tells =
      options.ci == "github" || (options.ci == "auto" && is_on(context, "GITHUB_ACTIONS"));
  if (!tells) {
    return;
  }
  const reports::Format& github = *reports::find_format("github");
  context.streams.err(github.render(InCheckout(run, context.folder).for_form(github), {}));
  const std::string summary(variable(context.environment, "GITHUB_STEP_SUMMARY"));
  if (summary.empty()) {
    return;
  }
  const auto done = append_file(summary, reports::find_format("markdown")->render(run, {}));
  context.streams.err(done ? "note: the summary was appended to GITHUB_STEP_SUMMARY\n"
                           : reports::render_error(done.error(), {}));
}

/// run -> waive -> conclude.
int conclude_run(Context& context, const Options& options, Run run, bool folder) {
  run = waive(std::move(run), context.gate.waivers, date_of(context.started()));
  run.verdicts = gathered(std::move(run.verdicts));
  const std::vector<Error> before = run.input_errors;
  const auto written = write_reports(context, options, run, folder);
  if (!written && !is_said(before, written.error())) {
    context.streams.err(reports::render_error(
        written.error(), style_for(context, options, context.err_is_terminal)));
  }
  tell_ci(context, options, run);
  print_run(context, options, run, !written);
  const int code = conclude(run).exit_code;
  return options.exit_zero && (code == 1 || code == 3) ? 0 : code;
}

std::string_view name(Origin origin) {
  return origin == Origin::File          ? "file"
         : origin == Origin::Environment ? "environment"
                                         : "command line";
}

}  // namespace

Tool this_tool() {
  Tool tool;
  tool.version = build_version();
  tool.commit = build_commit();
  tool.build = build_kind();
  tool.compiler = build_compiler();
  return tool;
}

Status prepare(Context& context, const Options& options) {
  if (options.out == "-") {
    return fail(Code::BadValue, "--out - is not a folder")
        .advise("leave --out out: the result goes to stdout anyway");
  }
  BV_TRY(reports, reports::wanted_reports(options.reports));
  const bool to_stdout = std::any_of(reports.begin(), reports.end(),
                                     [](const reports::Wanted& one) { return one.file == "-"; });
  if (to_stdout && options.has("format")) {
    return fail(Code::Conflict, "--report and --format both say what goes to stdout")
        .advise("leave out --format, or give the report a file");
  }
  context.gate.reports = std::move(reports);
  return Done{};
}

Status prepare_reports(Context& context, const Options& options, bool folder) {
  if (folder && !options.out.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    if (error) {
      return io::system_fault(error.value(), "making", options.out, Code::CannotWrite);
    }
    BV_CHECK(check_report_place(options.out));
  }
  // finish_with_error must not write what is refused here.
  for (const reports::Wanted& one : std::exchange(context.gate.reports, {})) {
    BV_CHECK(check_report_file(options, one.file, one.format->name));
    context.gate.reports.push_back(one);
  }
  if (!options.waivers.empty()) {
    auto text = io::read_file(options.waivers, kWaiversBytesMax, Code::WaiversInvalid);
    if (!text) {
      Error error = std::move(text).error();
      error.code = Code::WaiversInvalid;
      return error;
    }
    BV_TRY(waivers, read_waivers(*text, options.waivers, date_of(context.started())));
    context.gate.waivers = std::move(waivers);
  }
  return Done{};
}

Status mark_begun(const Context& context, const Options& options, bool folder) {
  Run run;
  stamp(context, options, run);
  run.stopped = true;
  run.stop_signal = SIGKILL;
  run.notes.emplace_back(
      "this run has not ended: it is under way, or was ended in a way that no program sees "
      "(SIGKILL, no memory, no power)");
  const auto is_old = [](const std::filesystem::path& file) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(file, ignored) && is_report(file);
  };
  const std::filesystem::path out(options.out);
  if (folder && !options.out.empty() && is_old(out / "verdicts.json")) {
    BV_TRY(lock, io::FolderLock::take(out));
    static_cast<void>(lock);
    for (const reports::Format& format : reports::formats()) {
      if (format.in_folder && is_old(out / format.file)) {
        BV_CHECK(io::write_named(out / format.file, format.render(run, {})));
      }
    }
  }
  for (const reports::Wanted& one : context.gate.reports) {
    if (one.file != "-" && is_old(one.file)) {
      BV_CHECK(io::write_named(one.file, one.format->render(run, {})));
    }
  }
  return Done{};
}

void show_header(Context& context, const Options& options, const Run& run) {
  if (stdout_format(context, options).name != "text" || options.verbosity() < 0) {
    return;
  }
  context.streams.out(
      reports::render_header(run, style_for(context, options, context.out_is_terminal)));
  context.header_shown = context.streams.flush();
}

void stamp(const Context& context, const Options& options, Run& run) {
  run.tool = this_tool();
  run.command = options.command;
  run.argv = context.arguments;
  for (const Setting& setting : options.given) {
    const OptionSpec& spec = *find_option(setting.name);
    if (spec.group != "output" && spec.name != "jobs" && spec.name != "patience") {
      run.settings.push_back({setting.name, setting.text, std::string(name(setting.origin))});
    }
  }
  run.seed = options.seed.value_or(run.seed);
  run.level = options.level;
  run.fail_on = fail_on_from(options.fail_on).value_or(run.fail_on);
  run.allow_partial = options.allow_partial;
  run.partial = run.partial || !options.match.empty();
  run.report = options.out;
  if (const int signal = stop_requested(); signal != 0) {
    run.stopped = true;
    run.stop_signal = signal;
  }
  run.started = context.started();
  run.seconds = context.seconds();
  run.host = host_name();
  run.cpus = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  run.peak_rss = peak_bytes();
}

int finish(Context& context, const Options& options, Run run) {
  return conclude_run(context, options, std::move(run), false);
}

int report_and_finish(Context& context, const Options& options, Run run) {
  return conclude_run(context, options, std::move(run), true);
}

int finish_with_error(Context& context, const Options& options, const Error& error, bool folder) {
  return conclude_run(context, options, run_of(context, options, error), folder);
}

std::string last_words(const Context& context, const Options& options, const Error& error,
                       bool concludes, int signal) {
  if (!concludes) {
    return options.json ? error_json(options.command, error) : "";
  }
  Run run = run_of(context, options, error);
  run.stop_signal = signal == 0 ? run.stop_signal : signal;
  const reports::Format& format = stdout_format(context, options);
  if (format.name == "text") {
    return options.verbosity() > -2 ? last_line(run) + "\n" : "";
  }
  return format.render(run, {});
}

void fill_replays(const Options& options, std::string_view command, Run& run) {
  const bool one_model = options.megatron.empty() && options.against.empty();
  const bool asks = one_model && (command == "check" || command == "roundtrip");
  for (Verdict& verdict : run.verdicts) {
    const bool open = verdict.outcome != Outcome::Proved && verdict.outcome != Outcome::Held;
    const bool asked =
        asks && !verdict.claim.starts_with("adapter-");  // --only takes no such claim
    verdict.replay =
        open ? replay_line(options, command, asked ? verdict.claim : "", verdict.layout) : "";
  }
}

std::string start_line(const Options& options) {
  if (options.verbosity() < 0) {
    return "";
  }
  const std::string model = escaped(options.headers.empty() ? options.model : options.headers);
  if (options.command == "diff") {
    return fmt::format("comparing {}\n", escaped(join(options.operands, " with ")));
  }
  if (model.empty()) {
    return "";  // the error that follows says what is missing
  }
  if (options.command == "convert") {
    return fmt::format("converting {} to {}\n", model, options.to);
  }
  return fmt::format("checking {}\n", model);
}

int flushed(Context& context, const Options& options, int code) {
  if (context.streams.flush()) {
    return code;
  }
  context.streams.err(
      reports::render_error(fail(Code::DiskFull, "the result could not be written to stdout")
                                .advise("free space, or send it elsewhere"),
                            style_for(context, options, context.err_is_terminal)));
  return code == 0 ? exit_code_of(Code::DiskFull) : code;
}

}  // namespace bv::cli
