#include "ci/cli/session/report_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "ci/cli/session/in_checkout.hpp"
#include "ci/cli/session/report_file.hpp"
#include "core/base/text.hpp"
#include "core/io/named_output.hpp"
#include "core/io/output_folder.hpp"
#include "reports/formats.hpp"

namespace bv::cli {
namespace {

/// The reports of a run: each file, and the form that it gets.
using ReportFiles = std::vector<std::pair<std::filesystem::path, const reports::Format*>>;
ReportFiles report_files(const Context& context, const Options& options, bool folder) {
  ReportFiles out;
  std::error_code ignored;
  // Somebody's own files stay: prepare() has refused them, and its error is not written over them.
  if (folder && !options.out.empty() && std::filesystem::is_directory(options.out, ignored) &&
      check_report_place(options.out)) {
    for (const reports::Format& format : reports::formats()) {
      if (format.in_folder) {
        out.emplace_back(std::filesystem::path(options.out) / format.file, &format);
      }
    }
  }
  for (const reports::Wanted& one : context.gate.reports) {
    if (one.file != "-") {
      out.emplace_back(one.file, one.format);
    }
  }
  return out;
}

/// Is it a file of the folder of --out? Without one there is none, whatever a --report is called.
bool is_in_folder(const Options& options, const ReportFiles::value_type& file) {
  return !options.out.empty() && file.second->in_folder &&
         file.first == std::filesystem::path(options.out) / file.second->file;
}

/// All or none of the files; `told` are the streams that have theirs, which cannot be taken back.
Status deliver(const ReportFiles& files, const InCheckout& run,
               std::set<std::filesystem::path>& told) {
  io::NamedOutputs outputs;
  for (const auto& [file, format] : files) {
    BV_CHECK(outputs.add(file, format->render(run.for_form(*format), {})));
  }
  const Status done = outputs.commit();
  told = outputs.told();
  return done;
}

/// A report was lost: those that can be written say so, and none says anything else.
void deliver_loss(const Options& options, const ReportFiles& files, const InCheckout& run,
                  const std::set<std::filesystem::path>& told) {
  reports::TextStyle style;
  style.reports_lost = true;
  std::error_code ignored;
  const auto drop = [&](const std::filesystem::path& file) {
    if (std::filesystem::is_regular_file(file, ignored) && is_report(file)) {
      std::filesystem::remove(file, ignored);
    }
  };
  for (const auto& [file, format] : files) {
    if (!told.contains(file) &&
        !io::write_named(file, format->render(run.for_form(*format), style))) {
      drop(file);
    }
  }
  // A folder without verdicts.json would be taken for somebody else's by the next run.
  if (!std::filesystem::exists(std::filesystem::path(options.out) / "verdicts.json", ignored)) {
    for (const auto& file : files) {
      if (is_in_folder(options, file)) {
        drop(file.first);
      }
    }
  }
}

}  // namespace

Status check_report_place(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / "verdicts.json", ignored) &&
      is_report(folder / "verdicts.json", "json")) {
    return Done{};
  }
  for (const reports::Format& format : reports::formats()) {
    if (format.in_folder && std::filesystem::exists(folder / format.file, ignored)) {
      return fail(Code::OutputExists,
                  fmt::format("{} is there and is not of an earlier run, which would have left "
                              "verdicts.json",
                              escaped((folder / format.file).string())))
          .advise("choose another --out, or move the file away; nothing was written");
    }
  }
  return Done{};
}

bool is_said(const std::vector<Error>& errors, const Error& error) {
  return std::any_of(errors.begin(), errors.end(), [&](const Error& one) {
    return one.code == error.code && one.where == error.where;
  });
}

Status write_reports(const Context& context, const Options& options, Run& run, bool folder) {
  std::optional<io::FolderLock> lock;  // the files of one run, not of two
  Status written = Done{};
  ReportFiles files = report_files(context, options, folder);
  if (std::any_of(files.begin(), files.end(),
                  [&](const auto& one) { return is_in_folder(options, one); })) {
    auto taken = io::FolderLock::take(options.out);
    if (taken) {
      lock.emplace(std::move(*taken));
    } else {
      written = taken.error();
      files = report_files(context, options, false);
    }
  }
  std::set<std::filesystem::path> told;
  written = written ? deliver(files, InCheckout(run, context.folder), told) : written;
  if (!written) {
    if (!is_said(run.input_errors, written.error())) {
      run.input_errors.push_back(written.error());
    }
    run.next.clear();
    run.next_note.clear();
    deliver_loss(options, files, InCheckout(run, context.folder), told);
  }
  return written;
}

}  // namespace bv::cli
