// survey DIR|FILE...: each rules file on the checkpoint beside it, one row each.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ci/cli/command.hpp"
#include "ci/cli/commands/survey_baseline.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/report_file.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/named_output.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/gather.hpp"
#include "properties/claims/catalogue.hpp"
#include "reports/formats.hpp"
#include "reports/survey_page.hpp"

namespace bv::cli {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;
using reports::SurveyRow;

constexpr std::string_view kRulesEnd = ".rules.json";
constexpr std::string_view kNotes = "survey.json";

/// The rules files of folders, and those that are named; sorted, each once.
Result<std::vector<fs::path>> rules_files(const Options& options) {
  std::set<fs::path> out;
  for (const std::string& operand : options.operands) {
    std::error_code failed;
    if (!fs::exists(operand, failed)) {
      return fail(Code::ModelNotFound, fmt::format("{} does not exist", escaped(operand)))
          .advise("give a folder of rules files, or one of them");
    }
    if (!fs::is_directory(operand, failed)) {
      out.insert(operand);
      continue;
    }
    fs::directory_iterator at(operand, failed);
    for (; !failed && at != fs::directory_iterator(); at.increment(failed)) {
      if (at->path().filename().string().ends_with(kRulesEnd)) {
        out.insert(at->path());
      }
    }
  }
  if (out.empty()) {
    return fail(Code::BadValue, options.operands.empty()
                                    ? std::string("survey needs a folder of rules files")
                                    : fmt::format("no NAME{} in {}", kRulesEnd,
                                                  escaped(join(options.operands, ", "))))
        .advise("python -m bridge_verify.export --all MODELS -o DIR; bridge-verify survey DIR");
  }
  return std::vector<fs::path>(out.begin(), out.end());
}

std::string name_of(const fs::path& rules) {
  const std::string file = rules.filename().string();
  return file.ends_with(kRulesEnd) ? file.substr(0, file.size() - kRulesEnd.size()) : file;
}

/// The checkpoint of a rules file: a headers dump or a folder of its name beside it.
Result<fs::path> model_of(const fs::path& rules) {
  const fs::path base = rules.parent_path() / name_of(rules);
  for (const char* end : {".headers.json.gz", ".headers.json", ""}) {
    const fs::path path = base.string() + end;
    if (path != rules && io::has_entry(path)) {
      return path;
    }
  }
  return fail(Code::ModelNotFound, fmt::format("{} has no checkpoint", escaped(rules.string())))
      .pair("none beside it", escaped(base.string()) + ".headers.json.gz, or a folder " +
                                  escaped(base.filename().string()))
      .advise("put the headers dump beside the rules: bridge-verify inspect --dump-headers");
}

/// survey.json beside the rules: what is known of a row besides (docs/howto/export-and-gate.md).
class Notes {
 public:
  /// Errors: BadValue for a file that is no JSON.
  Status read(const fs::path& folder) {
    if (!io::has_entry(folder / kNotes)) {
      return Done{};
    }
    BV_TRY(parsed, json_of_file((folder / kNotes).string()));
    if (text_of(parsed, "schema") != "bridge-survey-corpus/1") {
      return fail(Code::RulesInvalid,
                  fmt::format("{} is not about a survey", escaped((folder / kNotes).string())))
          .pair("another schema", "bridge-survey-corpus/1")
          .advise("move the file away, or write it again");
    }
    if (const json* packages = member_of(parsed, "packages"); packages != nullptr) {
      for (const auto& [name, version] : packages->items()) {
        packages_.push_back(name + " " + (version.is_string() ? version.get<std::string>() : ""));
      }
    }
    if (const json* rows = member_of(parsed, "rows"); rows != nullptr && rows->is_object()) {
      for (const auto& [name, row] : rows->items()) {
        rows_[folder / name] = row;
      }
    }
    return Done{};
  }

  [[nodiscard]] const json& of(const fs::path& base) const {
    static const json nothing = json::object();
    const auto found = rows_.find(base);
    return found == rows_.end() ? nothing : found->second;
  }
  [[nodiscard]] std::string packages() const { return join(packages_, ", "); }

 private:
  std::map<fs::path, json> rows_;
  std::vector<std::string> packages_;
};

std::vector<reports::CodeCount> codes_of(const Run& run, bool refuted) {
  std::map<std::string, std::int64_t> out;
  for (const Verdict& verdict : run.verdicts) {
    const bool open = verdict.outcome == Outcome::Inconclusive ||
                      verdict.outcome == Outcome::Unsupported || verdict.outcome == Outcome::Broken;
    if (refuted ? verdict.outcome == Outcome::Refuted : open) {
      ++out[label(verdict.code)];
    }
  }
  return {out.begin(), out.end()};
}

/// Does the row show a defect that is known? Each thing that it is known by must be there: codes
/// that are refuted, words of the exporter, words of what the real bridge did.
bool is_shown(const json& finding, const SurveyRow& row) {
  const json* codes = member_of(finding, "codes");
  const std::string trouble = text_of(finding, "trouble");
  const std::string real = text_of(finding, "real");
  const auto refuted = [&row](const json& code) {
    return std::any_of(row.refuted.begin(), row.refuted.end(),
                       [&code](const auto& one) { return code == one.first; });
  };
  const auto says = [&trouble](const std::string& line) {
    return line.find(trouble) != std::string::npos;
  };
  const bool by_codes = codes == nullptr || std::all_of(codes->begin(), codes->end(), refuted);
  const bool by_trouble =
      trouble.empty() || std::any_of(row.trouble.begin(), row.trouble.end(), says);
  const bool by_real = row.real.find(real) != std::string::npos;
  return (codes != nullptr || !trouble.empty()) && by_codes && by_trouble && by_real;
}

void describe(const json& note, SurveyRow& row) {
  row.variant = text_of(note, "variant");
  row.names_of = text_of(note, "names");
  row.real = text_of(note, "real");
  if (const json* trouble = member_of(note, "trouble"); trouble != nullptr && trouble->is_array()) {
    for (const json& line : *trouble) {
      row.trouble.push_back(line.is_string() ? line.get<std::string>() : line.dump());
    }
  }
  if (const json* findings = member_of(note, "findings");
      findings != nullptr && findings->is_array()) {
    for (const json& finding : *findings) {
      row.findings.emplace_back(text_of(finding, "name"), is_shown(finding, row));
    }
  }
}

void fill(const Run& run, SurveyRow& row) {
  const Conclusion end = conclude(run);
  row.word = end.word;
  row.exit_code = end.exit_code;
  row.bridge_class = run.family;
  row.rules = run.rules;
  row.refuted = codes_of(run, true);
  row.open = codes_of(run, false);
  std::set<std::string> not_judged;
  for (const Verdict& verdict : run.verdicts) {
    row.questions += verdict.outcome == Outcome::Inconclusive ? 1 : 0;
    if (verdict.outcome == Outcome::Unsupported && !verdict.rule.empty()) {
      not_judged.insert(verdict.rule);
    }
  }
  row.rules_not_judged = std::ssize(not_judged);
  for (const claims::Claim& claim : claims::catalogue()) {
    const ClaimResult result = result_of(run, claim.id);
    row.claims.push_back(result.checked ? reports::SurveyCell{std::string(bv::name(result.outcome)),
                                                              letters(result.all)}
                                        : reports::SurveyCell{});
  }
}

class SurveyRun {
 public:
  SurveyRun(Context& context, const Options& options) : context_(context), options_(options) {}

  Result<int> run() {
    BV_TRY(before, survey_baseline(options_.baseline));
    BV_TRY(files, rules_files(options_));
    std::set<fs::path> folders;
    for (const fs::path& file : files) {
      folders.insert(file.parent_path());
    }
    for (const fs::path& folder : folders) {
      BV_CHECK(notes_.read(folder));
    }
    for (const claims::Claim& claim : claims::catalogue()) {
      out_.claims.emplace_back(claim.id);
    }
    out_.packages = notes_.packages();
    BV_CHECK(make_folder());
    drop_old();
    CommandProgress progress(context_, options_);
    progress.start("registries", 0, files.size());
    for (const fs::path& file : files) {
      if (stop_requested() != 0) {
        return fail(Code::Stopped, "the survey was stopped").advise("run it again");
      }
      out_.rows.push_back(row_of(file));
      progress.advance(0, 1, out_.rows.back().name);
    }
    if (!written_) {
      drop_pages();
    }
    BV_CHECK(compare(before));
    std::stable_sort(out_.rows.begin(), out_.rows.end(),
                     [](const SurveyRow& a, const SurveyRow& b) { return rank(a) < rank(b); });
    if (const Status delivered = deliver(); !delivered) {
      drop_pages();
      return delivered.error();
    }
    return exit_code();
  }

 private:
  /// Those of an earlier survey: killed, this one leaves none that say what it has not seen.
  void drop_old() const {
    for (const char* name : {"survey.json", "survey.html"}) {
      const fs::path file = fs::path(options_.out) / name;
      std::error_code ignored;
      if (!options_.out.empty() &&
          fs::symlink_status(file, ignored).type() == fs::file_type::regular) {
        fs::remove(file, ignored);
      }
    }
  }

  /// A survey that could not be written leaves no page of its own that says PASS.
  void drop_pages() const {
    for (const SurveyRow& row : out_.rows) {
      std::error_code ignored;
      const fs::path page = fs::path(options_.out) / row.link;
      if (!row.link.empty() && fs::is_regular_file(page, ignored) && is_report(page, "html")) {
        fs::remove(page, ignored);
      }
    }
  }

  /// Broken, contradicting, refuted, stopped, undecided, green.
  static int rank(const SurveyRow& row) {
    return row.exit_code == 4          ? 0
           : reports::contradicts(row) ? 1
           : row.exit_code == 1        ? 2
           : row.exit_code == 3        ? 4
           : row.exit_code == 0        ? 5
                                       : 3;
  }

  [[nodiscard]] Status make_folder() const {
    std::error_code failed;
    if (!options_.out.empty() && !fs::create_directories(options_.out, failed) &&
        !fs::is_directory(options_.out)) {
      return fail(Code::CannotWrite, "cannot make the folder " + escaped(options_.out))
          .advise("choose another --out");
    }
    return Done{};
  }

  SurveyRow row_of(const fs::path& file) {
    SurveyRow row;
    row.name = name_of(file);
    auto run = checked(file);
    if (run) {
      run->verdicts = gathered(std::move(run->verdicts));
      fill(*run, row);
      describe(notes_.of(file.parent_path() / row.name), row);
      written_ = write_report(*run, row);
    } else {
      row.exit_code = exit_code_of(run.error().code);
      row.word = word_of(row.exit_code);
      row.claims.resize(out_.claims.size());
      describe(notes_.of(file.parent_path() / row.name), row);
      row.trouble.push_back(label(run.error().code) + ": " + run.error().message);
    }
    return row;
  }

  /// `check --rules FILE` of the checkpoint beside it, without a word on stdout.
  Result<Run> checked(const fs::path& file) {
    BV_TRY(model, model_of(file));
    Options options = options_;
    options.command = "check";
    options.operands.clear();
    options.rules = file.string();
    options.model = model.string();
    options.out.clear();
    options.quiet = 2;
    Streams silent([](std::string_view) { return true; }, [](std::string_view) {});
    Context context{silent,           context_.environment, context_.seconds,
                    context_.started, context_.argv0,       {}};
    BV_TRY(run, check_once(context, options));
    stamp(context, options, run);
    return run;
  }

  Status write_report(const Run& run, SurveyRow& row) const {
    if (options_.out.empty() || !written_) {
      return written_;
    }
    row.link = row.name + ".html";
    return io::write_named(fs::path(options_.out) / row.link,
                           reports::find_format("html")->render(run, {}));
  }

  /// What changed since an earlier survey.
  Status compare(const std::optional<json>& before) {
    BV_CHECK(written_);
    if (!before) {
      return Done{};
    }
    std::map<std::string, const json*> known;
    for (const json& row : before->at("rows")) {
      known.emplace(text_of(row, "name"), &row);
    }
    for (SurveyRow& row : out_.rows) {
      const auto found = known.find(row.name);
      row.change = survey_change(found == known.end() ? nullptr : found->second, row);
      known.erase(row.name);
    }
    for (const auto& [name, row] : known) {
      out_.lost.push_back(name);
    }
    return Done{};
  }

  Status deliver() {
    if (!options_.out.empty()) {
      const fs::path folder = options_.out;
      io::NamedOutputs outputs;
      BV_CHECK(outputs.add(folder / "survey.html", reports::survey_html(out_)));
      BV_CHECK(outputs.add(folder / "survey.json", reports::survey_json(out_)));
      BV_CHECK(outputs.commit());
    }
    context_.streams.out(
        options_.json
            ? reports::survey_json(out_)
            : reports::survey_text(out_, style_for(context_, options_, context_.out_is_terminal)));
    return Done{};
  }

  /// That of the worst row; with a baseline only what is newly red, no longer judged or gone.
  [[nodiscard]] int exit_code() const {
    if (!options_.baseline.empty()) {
      const reports::SurveyTotals sum = reports::totals(out_);
      return sum.newly_red > 0 || sum.newly_undecided > 0 || !out_.lost.empty() ? 1 : 0;
    }
    int worst = 0;
    for (const int code : {3, 5, 2, 1, 4}) {
      for (const SurveyRow& row : out_.rows) {
        worst = row.exit_code == code ? code : worst;
      }
    }
    return worst;
  }

  Context& context_;
  const Options& options_;
  Notes notes_;
  reports::Survey out_;
  Status written_ = Done{};
};

}  // namespace

int run_survey(Context& context, const Options& options) {
  const auto code = SurveyRun(context, options).run();
  return code ? *code : report_error(context, options, code.error());
}

}  // namespace bv::cli
