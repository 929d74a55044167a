#include "core/verdict/verdicts_json.hpp"

#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/verdict/bounded_json.hpp"
#include "core/verdict/gather.hpp"
#include "core/verdict/ids.hpp"
#include "core/verdict/mutation_json.hpp"
#include "core/verdict/verdict_json.hpp"

namespace bv {
namespace {

using Json = nlohmann::ordered_json;

using as_json::carries_code;
using as_json::name_json;
using as_json::number;
using as_json::text_or_null;
using as_json::verdict_json;

constexpr std::int64_t kDetailsPerCode = 1000;

/// The layouts of grouped verdicts, each list once.
struct LayoutSets {
  Json rows = Json::array();
  std::map<std::vector<std::string>, std::size_t> place;

  std::size_t place_of(const std::vector<std::string>& layouts) {
    const auto [at, fresh] = place.try_emplace(layouts, place.size());
    if (fresh) {
      rows.push_back(layouts);
    }
    return at->second;
  }
};

/// Verdicts [begin, end) differ in their layouts alone.
Json group_json(const std::vector<Verdict>& verdicts, std::size_t begin, std::size_t end,
                LayoutSets& sets) {
  std::vector<std::string> layouts;
  for (std::size_t i = begin; i < end; ++i) {
    layouts.push_back(verdicts[i].layout);
  }
  Verdict whole = verdicts[begin];
  whole.layout.clear();
  Json out = verdict_json(whole, whole.id(), true);
  out["layouts"] = sets.place_of(layouts);
  return out;
}

Json error_row(const Error& error) {
  return {{"code", label(error.code)}, {"message", error.message}, {"where", error.where},
          {"facts", error.facts},      {"found", error.found},     {"wanted", error.wanted},
          {"help", error.help}};
}

Json errors_json(const std::vector<Error>& errors) {
  Json out = Json::array();
  for (const Error& error : errors) {
    out.push_back(error_row(error));
  }
  return out;
}

Json result_json(const Run& run, const Json& truncated) {
  const Conclusion conclusion = conclude(run);
  const Counts counts = count(run);
  return {{"word", conclusion.word},
          {"exit_code", conclusion.exit_code},
          {"counts",
           {{"proved", counts.proved},
            {"held", counts.held},
            {"refuted", counts.refuted},
            {"inconclusive", counts.inconclusive},
            {"unsupported", counts.unsupported},
            {"waived", counts.waived},
            {"broken", counts.broken}}},
          {"fail_on", name(run.fail_on)},
          {"allow_partial", run.allow_partial},
          {"partial", run.partial},
          {"stopped", run.stopped},
          {"undecided", undecided_reasons(run)},
          {"truncated", truncated}};
}

Json model_json(const Run& run) {
  Json dtypes = Json::object();
  for (const auto& [dtype, tensors] : run.dtypes) {
    dtypes[dtype] = number(tensors);
  }
  return {{"ref", run.model_ref},
          {"source", run.model_source},
          {"revision", text_or_null(run.revision)},
          {"architecture", run.architecture},
          {"model_type", run.model_type},
          {"tensors", number(run.tensors)},
          {"elements", number(run.elements)},
          {"bytes", number(run.bytes)},
          {"shards", number(run.shards)},
          {"dtypes", dtypes},
          {"header_digest", text_or_null(run.header_digest)}};
}

Json layouts_json(const Run& run) {
  Json out = Json::array();
  for (const LayoutRow& row : run.layouts) {
    out.push_back({{"id", row.id},
                   {"tp", number(row.tp)},
                   {"pp", number(row.pp)},
                   {"ep", number(row.ep)},
                   {"etp", number(row.etp)},
                   {"vpp", number(row.vpp)},
                   {"cp", number(row.cp)},
                   {"ranks", number(row.world)},
                   {"also", text_or_null(row.also)}});
  }
  return out;
}

Json claims_json(const Run& run) {
  Json out = Json::array();
  for (const ClaimSummary& claim : run.claims) {
    out.push_back({{"id", claim.claim},
                   {"title", claim.title},
                   {"subjects", number(claim.subjects)},
                   {"noun", claim.noun},
                   {"note", claim.note},
                   {"requested", claim.requested},
                   {"skipped", claim.skipped},
                   {"vacuous", claim.vacuous},
                   {"reached", claim.reached}});
  }
  return out;
}

Json detected_json(const Run& run) {
  Json out = Json::array();
  for (const Fact& fact : run.detected) {
    out.push_back({{"what", fact.what}, {"value", fact.value}, {"because", fact.because}});
  }
  return out;
}

std::string_view status_name(const Run& run) {
  if (count(run).broken > 0) {
    return "broken";
  }
  return run.stopped ? "stopped" : run.partial ? "partial" : "complete";
}

Json settings_json(const Run& run) {
  Json out = Json::array();
  for (const SettingRow& row : run.settings) {
    out.push_back({{"name", row.name}, {"text", row.text}, {"origin", row.origin}});
  }
  return out;
}

Json waivers_json(const Run& run) {
  Json out = Json::array();
  for (const WaiverRow& row : run.waivers) {
    out.push_back({{"code", row.code},
                   {"subject", row.subject},
                   {"layouts", row.layouts},
                   {"reason", row.reason},
                   {"issue", row.issue},
                   {"owner", text_or_null(row.owner)},
                   {"expires", row.expires},
                   {"place", row.place},
                   {"matched", number(row.matched)},
                   {"expired", row.expired}});
  }
  return out;
}

Json upstream_json(const Run& run) {
  return run.rules_repository.empty() && run.rules_commit.empty()
             ? Json(nullptr)
             : Json{{"repo", text_or_null(run.rules_repository)},
                    {"commit", text_or_null(run.rules_commit)}};
}

Json baseline_json(const Baseline& baseline) {
  Json rows = Json::array();
  for (const BaselineRow& row : baseline.rows) {
    rows.push_back({{"change", row.change},
                    {"id", name_json(row.id)},
                    {"before", row.before},
                    {"after", row.after},
                    {"title", row.title}});
  }
  return {{"ref", baseline.ref}, {"unchanged", number(baseline.unchanged)}, {"rows", rows}};
}

Json run_block(const Run& run) {
  return {{"argv", run.argv}, {"started", run.started},   {"seconds", run.seconds},
          {"host", run.host}, {"cpus", number(run.cpus)}, {"peak_rss", number(run.peak_rss)}};
}

}  // namespace

std::string error_json(std::string_view command, const Error& error) {
  const int code = exit_code_of(error.code);
  const Json out = {{"schema", "bridge-error/1"},
                    {"command", command},
                    {"result", {{"word", word_of(code)}, {"exit_code", code}}},
                    {"error", error_row(error)}};
  return dump_bounded(out, 2) + "\n";
}

std::string verdict_json_line(const Verdict& verdict) {
  return dump_bounded(verdict_json(verdict, verdict.id(), true), -1);
}

std::string verdicts_json(const Run& run) {
  Json verdicts = Json::array();
  Json truncated = Json::object();
  LayoutSets sets;
  std::map<Code, std::int64_t> seen;
  const std::vector<std::string> ids = unique_ids(run.verdicts);
  for (std::size_t i = 0; i < run.verdicts.size();) {
    const Verdict& verdict = run.verdicts[i];
    const bool detailed = !carries_code(verdict.outcome) || ++seen[verdict.code] <= kDetailsPerCode;
    const std::size_t end = end_of_group(run.verdicts, i);
    verdicts.push_back(end == i + 1 ? verdict_json(verdict, ids[i], detailed)
                                    : group_json(run.verdicts, i, end, sets));
    i = end;
  }
  for (const auto& [code, times] : seen) {
    if (times > kDetailsPerCode) {
      truncated[label(code)] = times - kDetailsPerCode;
    }
  }
  Json out = {
      {"schema", "bridge-verdicts/1"},
      {"tool",
       {{"name", run.tool.name},
        {"version", run.tool.version},
        {"commit", run.tool.commit},
        {"build", run.tool.build},
        {"compiler", run.tool.compiler}}},
      {"status", status_name(run)},
      {"result", result_json(run, truncated)},
      {"run", run_block(run)},
      {"command",
       {{"name", run.command},
        {"settings", settings_json(run)},
        {"seed", number(run.seed)},
        {"level", run.level},
        {"stop_signal", run.stopped ? number(run.stop_signal) : Json(nullptr)}}},
      {"model", model_json(run)},
      {"rules",
       {{"family", run.family},
        {"reason", run.family_reason},
        {"digest", text_or_null(run.rules_digest)},
        {"count", number(run.rules)},
        {"upstream", upstream_json(run)}}},
      {"detected", detected_json(run)},
      {"layouts", layouts_json(run)},
      {"layouts_note", run.layouts_note},
      {"claims", claims_json(run)},
      {"verdicts", verdicts},
      {"warnings", errors_json(run.warnings)},
      {"input_errors", errors_json(run.input_errors)},
      {"notes", run.notes},
      {"next", {{"command", run.next}, {"note", run.next_note}}},
      {"tensors", nullptr},
      {"coverage", nullptr},
      {"mutation", run.mutation ? mutation_json(*run.mutation) : Json(nullptr)},
      {"lora", nullptr},
      {"bench", nullptr},
      {"waivers", waivers_json(run)},
      {"baseline", run.baseline ? baseline_json(*run.baseline) : Json(nullptr)},
  };
  if (!sets.rows.empty()) {
    out["layout_sets"] = std::move(sets.rows);
  }
  return dump_bounded(std::move(out), 2) + "\n";
}

}  // namespace bv
