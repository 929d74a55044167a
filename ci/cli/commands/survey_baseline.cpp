#include "ci/cli/commands/survey_baseline.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {

using nlohmann::json;

const json* member_of(const json& object, const std::string& key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? &*found : nullptr;
}

std::string text_of(const json& object, const std::string& key) {
  const json* found = member_of(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : "";
}

Result<json> json_of_file(const std::string& file) {
  BV_TRY(text, io::read_file(file, kSurveyBytesMax, Code::VerdictsInvalid));
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    JsonMistake mistake =
        json_mistake(text, error.byte == 0 ? 0 : error.byte - 1, json_reason(error.what()));
    Error out =
        fail(Code::VerdictsInvalid, fmt::format("{} is not JSON: {}", escaped(file), mistake.what))
            .at(mistake.place(file))
            .advise("fix that line");
    out.facts = std::move(mistake.facts);
    return out;
  } catch (const json::exception& error) {
    return fail(Code::VerdictsInvalid,
                fmt::format("{} cannot be read: {}", escaped(file), escaped(error.what())))
        .at(file)
        .advise("correct the file");
  }
}

Result<std::optional<json>> survey_baseline(const std::string& file) {
  if (file.empty()) {
    return std::optional<json>();
  }
  BV_TRY(before, json_of_file(file));
  const json* rows = member_of(before, "rows");
  if (text_of(before, "schema") != "bridge-survey/1" || rows == nullptr || !rows->is_array()) {
    return fail(Code::VerdictsInvalid, fmt::format("{} is not a survey", escaped(file)))
        .pair("another schema", "bridge-survey/1")
        .advise("bridge-verify survey DIR --json > survey.expected.json");
  }
  return std::optional<json>(std::move(before));
}

namespace {

/// Is a code among `now` that the row of the baseline does not have under `key`, or less often?
bool has_more(const json& before, const std::string& key,
              const std::vector<reports::CodeCount>& now) {
  const json* codes = member_of(before, key);
  return std::any_of(now.begin(), now.end(), [codes](const auto& one) {
    const json* count = codes == nullptr ? nullptr : member_of(*codes, one.first);
    return count == nullptr || !count->is_number_integer() ||
           count->get<std::int64_t>() < one.second;
  });
}

/// Fewer rules are judged than before, or more is asked that nothing answers.
bool is_less_judged(const json& before, const reports::SurveyRow& row) {
  const json* count = member_of(before, "rules_not_judged");
  const bool counted = count != nullptr && count->is_number_integer();
  return has_more(before, "open", row.open) ||
         row.rules_not_judged > (counted ? count->get<std::int64_t>() : 0);
}

}  // namespace

/// A code that is newly refuted, or more often, makes a red row newly red too; one that is open,
/// newly undecided.
std::string survey_change(const json* before, const reports::SurveyRow& row) {
  const bool red = row.exit_code != 0 && row.exit_code != 3;
  if (before == nullptr) {
    return red ? "newly red" : "new";
  }
  const json* code = member_of(*before, "exit_code");
  const int was = code != nullptr && code->is_number_integer() ? code->get<int>() : 0;
  const bool was_red = was != 0 && was != 3;
  const bool less_judged =
      (was == 0 && row.exit_code == 3) || (was_red == red && is_less_judged(*before, row));
  return red && (!was_red || has_more(*before, "refuted", row.refuted)) ? "newly red"
         : was_red && !red                                              ? "no longer red"
         : less_judged                                                  ? "newly undecided"
         : was != row.exit_code                                         ? "changed"
                                                                        : "";
}

}  // namespace bv::cli
