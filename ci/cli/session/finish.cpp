#include "ci/cli/session/finish.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <thread>

#include "ci/cli/build_info.hpp"
#include "ci/cli/command.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "reports/text.hpp"

namespace bv::cli {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "unknown";
}

std::uint64_t peak_bytes() {
  rusage usage{};
  return ::getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<std::uint64_t>(usage.ru_maxrss) * 1024U
                                               : 0;
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

void stamp(const Context& context, const Options& options, Run& run) {
  run.tool = this_tool();
  run.command = options.command;
  run.argv = context.arguments;
  run.seed = options.seed.value_or(run.seed);
  run.level = options.level;
  run.fail_on = options.fail_on;
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

Status make_report_folder(const Options& options) {
  if (options.out.empty()) {
    return Done{};
  }
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  if (error) {
    return fail(Code::PermissionDenied, "cannot create " + options.out + ": " + error.message())
        .advise("choose another folder with --out");
  }
  return Done{};
}

Status write_report(const Options& options, const Run& run) {
  if (options.out.empty()) {
    return Done{};
  }
  BV_CHECK(make_report_folder(options));
  const std::filesystem::path folder = options.out;
  BV_TRY(lock, io::FolderLock::take(folder));  // the files of one run, not of two
  static_cast<void>(lock);
  reports::TextStyle plain;
  plain.color = false;
  BV_CHECK(io::write_file(folder / "report.txt", reports::render_text(run, plain)));
  return io::write_file(folder / "verdicts.json", verdicts_json(run));
}

int finish(Context& context, const Options& options, const Run& run) {
  if (options.verbosity() > -2 || options.format != "text") {
    if (options.format == "json") {
      context.streams.out(verdicts_json(run));
    } else if (options.format == "jsonl") {
      for (const Verdict& verdict : run.verdicts) {
        context.streams.out(verdict_json_line(verdict) + "\n");
      }
    } else if (options.format == "plain") {
      context.streams.out(reports::render_plain(run));
    } else {
      context.streams.out(
          reports::render_text(run, style_for(context, options, context.out_is_terminal)));
    }
  }
  const int code = conclude(run).exit_code;
  return options.exit_zero && (code == 1 || code == 3) ? 0 : code;
}

int report_and_finish(Context& context, const Options& options, const Run& run) {
  if (auto written = write_report(options, run); !written) {
    return report_error(context, options, written.error());
  }
  return finish(context, options, run);
}

}  // namespace bv::cli
