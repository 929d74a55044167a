// The reading half of verdicts.json: what nlohmann throws and wrong types become Error here alone.

#include <fmt/format.h>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/verdict/counts_check.hpp"
#include "core/verdict/json_fields.hpp"
#include "core/verdict/mutation_json.hpp"
#include "core/verdict/verdicts_json.hpp"

namespace bv {
namespace {

std::optional<Outcome> outcome_from(std::string_view word) {
  for (const Outcome outcome :
       {Outcome::Proved, Outcome::Held, Outcome::Refuted, Outcome::Inconclusive,
        Outcome::Unsupported, Outcome::Waived, Outcome::Broken}) {
    if (name(outcome) == word) {
      return outcome;
    }
  }
  return std::nullopt;
}

Evidence evidence_from(std::string_view text) {
  const auto has = [text](char letter) { return text.find(letter) != std::string_view::npos; };
  return {.proved = has('P'),
          .bytes = has('B'),
          .oracle = has('O'),
          .upstream = has('U'),
          .gpu = has('G'),
          .sampled = has('S'),
          .waived = has('W')};
}

ElementRef read_element(Fields& fields, const Json& parent, const char* key,
                        const std::string& path) {
  const Json* object = fields.object(parent, key, path);
  if (object == nullptr) {
    return {};
  }
  return {fields.text(*object, "tensor", path + key + "."),
          fields.integers(*object, "index", path + key + ".")};
}

std::string rank_text(const Json* rank) {
  if (rank == nullptr || rank->is_null()) {
    return {};
  }
  if (rank->is_string()) {
    return rank->get<std::string>();
  }
  std::string out;
  if (rank->is_object()) {
    for (const auto& [axis, place] : rank->items()) {
      out += (out.empty() ? "" : " ") + axis + place.dump();
    }
  }
  return out;
}

Counterexample read_counterexample(Fields& fields, const Json& object, const std::string& path) {
  Counterexample out;
  out.tensor = fields.text(object, "tensor", path);
  out.rank = rank_text(Fields::find(object, "rank"));
  out.index = fields.integers(object, "index", path);
  out.wanted = read_element(fields, object, "wanted", path);
  out.found = read_element(fields, object, "found", path);
  if (const Json* bits = Fields::find(object, "bits"); bits != nullptr && bits->is_object()) {
    out.wanted_bits = fields.text(*bits, "wanted", path + "bits.");
    out.found_bits = fields.text(*bits, "found", path + "bits.");
  }
  return out;
}

Verdict read_verdict(Fields& fields, const Json& object, const std::string& path) {
  Verdict out;
  if (!object.is_object()) {
    fields.refuse(path, &object, "an object");
    return out;
  }
  out.claim = fields.text(object, "claim", path);
  const auto outcome = outcome_from(fields.text(object, "outcome", path));
  if (!outcome) {
    fields.refuse(path + "outcome", Fields::find(object, "outcome"),
                  "Proved, Held, Refuted, Inconclusive, Unsupported, Waived or Broken");
    return out;
  }
  out.outcome = *outcome;
  if (const Json* code = Fields::find(object, "code"); code != nullptr && !code->is_null()) {
    out.code = fields.code(object, "code", path);
  }
  if (const Json* rule = fields.object(object, "rule", path)) {
    out.rule = fields.text(*rule, "id", path + "rule.");
    out.kind = fields.text(*rule, "kind", path + "rule.");
    out.rule_class = fields.text(*rule, "class", path + "rule.");
    if (const Json* at = Fields::find(*rule, "source"); at != nullptr && at->is_object()) {
      out.rule_source = fields.text(*at, "text", path + "rule.source.");
    }
  }
  if (const Json* subject = fields.object(object, "subject", path)) {
    out.megatron = fields.text(*subject, "megatron", path + "subject.");
    out.hf = fields.texts(*subject, "hf", path + "subject.");
    out.subjects = fields.optional_texts(*subject, "all", path + "subject.");
  }
  out.layout = fields.text(object, "layout", path);
  out.evidence = evidence_from(fields.text(object, "evidence", path));
  out.cases = fields.integer<std::int64_t>(object, "cases", path);
  out.refuted_cases = fields.integer<std::int64_t>(object, "refuted_cases", path);
  out.title = fields.text(object, "title", path);
  out.facts = fields.texts(object, "facts", path);
  out.found = fields.text(object, "found", path);
  out.wanted = fields.text(object, "wanted", path);
  out.extent = fields.text(object, "extent", path);
  out.why = fields.text(object, "why", path);
  out.help = fields.text(object, "help", path);
  out.replay = fields.text(object, "replay", path);
  out.waiver = fields.text(object, "waiver", path);
  if (const Json* example = Fields::find(object, "counterexample");
      example != nullptr && example->is_object()) {
    out.counterexamples.push_back(read_counterexample(fields, *example, path + "counterexample."));
  }
  return out;
}

/// A file that says little may not become a run without bound.
constexpr std::size_t kVerdictsMax = std::size_t{1} << 20;

std::vector<std::vector<std::string>> read_layout_sets(Fields& fields, const Json& root) {
  std::vector<std::vector<std::string>> out;
  if (Fields::find(root, "layout_sets") == nullptr) {
    return out;  // no verdict stands for several
  }
  const Json* sets = fields.array(root, "layout_sets", "");
  for (std::size_t i = 0; sets != nullptr && i < sets->size() && fields.ok(); ++i) {
    const Json one = {{"set", (*sets)[i]}};
    out.push_back(fields.texts(one, "set", fmt::format("layout_sets[{}].", i)));
  }
  return out;
}

/// The verdict once on each layout of its set.
void add_group(Fields& fields, const Json& set, const std::string& path,
               const std::vector<std::vector<std::string>>& sets, Verdict verdict, Run& run) {
  const auto place = fields.integer_of<std::uint64_t>(set, path);
  if (!fields.ok()) {
    return;
  }
  if (place >= sets.size() || sets[place].empty()) {
    fields.refuse(path, &set, "the place of a list in layout_sets");
    return;
  }
  for (const std::string& layout : sets[place]) {
    verdict.layout = layout;
    run.verdicts.push_back(verdict);
  }
}

Baseline read_baseline(Fields& fields, const Json& object) {
  Baseline out;
  out.ref = fields.text(object, "ref", "baseline.");
  out.unchanged = fields.integer<std::int64_t>(object, "unchanged", "baseline.");
  const Json* rows = fields.array(object, "rows", "baseline.");
  for (std::size_t i = 0; rows != nullptr && i < rows->size() && fields.ok(); ++i) {
    const std::string path = fmt::format("baseline.rows[{}].", i);
    const auto text = [&](const char* key) { return fields.text((*rows)[i], key, path); };
    out.rows.push_back({text("change"), text("id"), text("before"), text("after"), text("title")});
  }
  return out;
}

/// Counted before anything is made of it.
void check_size(Fields& fields, const Json& root,
                const std::vector<std::vector<std::string>>& sets) {
  const Json* rows = Fields::find(root, "verdicts");
  std::size_t all = 0;
  for (std::size_t i = 0; rows != nullptr && rows->is_array() && i < rows->size(); ++i) {
    const Json* set = (*rows)[i].is_object() ? Fields::find((*rows)[i], "layouts") : nullptr;
    const bool known =
        set != nullptr && set->is_number_unsigned() && set->get<std::uint64_t>() < sets.size();
    all += known ? sets[set->get<std::size_t>()].size() : 1;
  }
  if (all > kVerdictsMax) {
    fields.refuse("verdicts", rows, "at most 1,048,576 verdicts, each layout counted");
  }
}

std::vector<Error> read_errors(Fields& fields, const Json& root, const char* key) {
  std::vector<Error> out;
  const Json* errors = fields.array(root, key, "");
  for (std::size_t i = 0; errors != nullptr && i < errors->size() && fields.ok(); ++i) {
    const Json& object = (*errors)[i];
    const std::string path = fmt::format("{}[{}].", key, i);
    if (!object.is_object()) {
      fields.refuse(path, &object, "an object");
      break;
    }
    Error error;
    error.code = fields.code(object, "code", path);
    error.message = fields.text(object, "message", path);
    error.where = fields.text(object, "where", path);
    error.facts = fields.texts(object, "facts", path);
    error.found = fields.text(object, "found", path);
    error.wanted = fields.text(object, "wanted", path);
    error.help = fields.text(object, "help", path);
    out.push_back(std::move(error));
  }
  return out;
}

void read_model(Fields& fields, const Json& root, Run& run) {
  const Json* model = fields.object(root, "model", "");
  if (model == nullptr) {
    return;
  }
  run.model_ref = fields.text(*model, "ref", "model.");
  run.model_source = fields.text(*model, "source", "model.");
  run.revision = fields.text(*model, "revision", "model.");
  run.architecture = fields.text(*model, "architecture", "model.");
  run.model_type = fields.text(*model, "model_type", "model.");
  run.tensors = fields.integer<std::int64_t>(*model, "tensors", "model.");
  run.elements = fields.integer<std::int64_t>(*model, "elements", "model.");
  run.bytes = fields.integer<std::uint64_t>(*model, "bytes", "model.");
  run.shards = fields.integer<std::int64_t>(*model, "shards", "model.");
  run.header_digest = fields.text(*model, "header_digest", "model.");
  if (const Json* dtypes = fields.object(*model, "dtypes", "model.")) {
    for (const auto& [dtype, tensors] : dtypes->items()) {
      run.dtypes.emplace_back(dtype,
                              fields.integer_of<std::int64_t>(tensors, "model.dtypes." + dtype));
    }
  }
}

void read_settings(Fields& fields, const Json& command, Run& run) {
  const Json* rows = fields.array(command, "settings", "command.");
  for (std::size_t i = 0; rows != nullptr && i < rows->size() && fields.ok(); ++i) {
    const std::string path = fmt::format("command.settings[{}].", i);
    run.settings.push_back({fields.text((*rows)[i], "name", path),
                            fields.text((*rows)[i], "text", path),
                            fields.text((*rows)[i], "origin", path)});
  }
}

void read_head(Fields& fields, const Json& root, Run& run) {
  if (const Json* tool = fields.object(root, "tool", "")) {
    run.tool = {fields.text(*tool, "name", "tool."), fields.text(*tool, "version", "tool."),
                fields.text(*tool, "commit", "tool."), fields.text(*tool, "build", "tool."),
                fields.text(*tool, "compiler", "tool.")};
  }
  if (const Json* result = fields.object(root, "result", "")) {
    const auto fail_on = fail_on_from(fields.text(*result, "fail_on", "result."));
    if (!fail_on) {
      fields.refuse("result.fail_on", Fields::find(*result, "fail_on"),
                    "refuted, inconclusive or warning");
    }
    run.fail_on = fail_on.value_or(FailOn::Inconclusive);
    run.allow_partial = fields.flag(*result, "allow_partial", "result.");
    run.partial = fields.flag(*result, "partial", "result.");
    run.stopped = fields.flag(*result, "stopped", "result.");
  }
  if (const Json* block = fields.object(root, "run", "")) {
    run.argv = fields.texts(*block, "argv", "run.");
    run.started = fields.text(*block, "started", "run.");
    run.seconds = fields.real(*block, "seconds", "run.");
    run.host = fields.text(*block, "host", "run.");
    run.cpus = fields.integer<std::int64_t>(*block, "cpus", "run.");
    run.peak_rss = fields.integer<std::uint64_t>(*block, "peak_rss", "run.");
  }
  if (const Json* command = fields.object(root, "command", "")) {
    run.command = fields.text(*command, "name", "command.");
    run.seed = fields.integer<std::uint64_t>(*command, "seed", "command.");
    run.level = fields.text(*command, "level", "command.");
    if (run.stopped) {
      run.stop_signal = fields.integer<std::int64_t>(*command, "stop_signal", "command.");
    }
    read_settings(fields, *command, run);
  }
  if (const Json* rules = fields.object(root, "rules", "")) {
    run.family = fields.text(*rules, "family", "rules.");
    run.family_reason = fields.text(*rules, "reason", "rules.");
    run.rules_digest = fields.text(*rules, "digest", "rules.");
    run.rules = fields.integer<std::int64_t>(*rules, "count", "rules.");
    if (const auto upstream = rules->find("upstream");
        upstream != rules->end() && upstream->is_object()) {
      run.rules_repository = fields.text(*upstream, "repo", "rules.upstream.");
      run.rules_commit = fields.text(*upstream, "commit", "rules.upstream.");
    }
  }
}

void read_tables(Fields& fields, const Json& root, Run& run) {
  const auto each = [&fields, &root](const char* key, const auto& take) {
    const Json* rows = fields.array(root, key, "");
    for (std::size_t i = 0; rows != nullptr && i < rows->size() && fields.ok(); ++i) {
      const std::string path = fmt::format("{}[{}].", key, i);
      if ((*rows)[i].is_object()) {
        take((*rows)[i], path);
      } else {
        fields.refuse(path, &(*rows)[i], "an object");
      }
    }
  };
  each("detected", [&](const Json& row, const std::string& path) {
    run.detected.push_back({fields.text(row, "what", path), fields.text(row, "value", path),
                            fields.text(row, "because", path)});
  });
  each("layouts", [&](const Json& row, const std::string& path) {
    const auto size = [&](const char* key) { return fields.integer<std::int64_t>(row, key, path); };
    run.layouts.push_back({fields.text(row, "id", path), size("tp"), size("pp"), size("ep"),
                           size("etp"), size("vpp"), size("cp"), size("ranks")});
    run.layouts.back().also = fields.optional_text(row, "also", path);
  });
  each("claims", [&](const Json& row, const std::string& path) {
    run.claims.push_back({fields.text(row, "id", path), fields.text(row, "title", path),
                          fields.integer<std::int64_t>(row, "subjects", path),
                          fields.text(row, "note", path), fields.flag(row, "requested", path),
                          fields.flag(row, "skipped", path), fields.flag(row, "vacuous", path),
                          fields.flag(row, "reached", path), fields.text(row, "noun", path)});
  });
  const std::vector<std::vector<std::string>> sets = read_layout_sets(fields, root);
  check_size(fields, root, sets);
  each("verdicts", [&](const Json& row, const std::string& path) {
    Verdict verdict = read_verdict(fields, row, path);
    const Json* set = Fields::find(row, "layouts");
    if (set == nullptr || set->is_null()) {
      run.verdicts.push_back(std::move(verdict));
    } else {
      add_group(fields, *set, path + "layouts", sets, std::move(verdict), run);
    }
  });
  if (const Json* baseline = Fields::find(root, "baseline");
      baseline != nullptr && baseline->is_object()) {
    run.baseline = read_baseline(fields, *baseline);
  }
  each("waivers", [&](const Json& row, const std::string& path) {
    const auto text = [&](const char* key) { return fields.text(row, key, path); };
    run.waivers.push_back({text("code"), text("subject"), text("layouts"), text("reason"),
                           text("issue"), text("owner"), text("expires"), text("place"),
                           fields.integer<std::int64_t>(row, "matched", path),
                           fields.flag(row, "expired", path)});
  });
  run.warnings = read_errors(fields, root, "warnings");
  run.input_errors = read_errors(fields, root, "input_errors");
  run.notes = fields.texts(root, "notes", "");
  run.layouts_note = fields.text(root, "layouts_note", "");
  if (const Json* next = fields.object(root, "next", "")) {
    run.next = fields.text(*next, "command", "next.");
    run.next_note = fields.text(*next, "note", "next.");
  }
}

}  // namespace

Result<Run> read_verdicts_json(std::string_view text, std::string_view file) {
  const std::string name(file);
  Json root;
  try {
    root = Json::parse(text);
  } catch (const Json::parse_error& error) {
    const JsonMistake mistake = json_mistake(text, error.byte - 1, json_reason(error.what()));
    return fail(Code::VerdictsInvalid, fmt::format("{} is not JSON: {}", name, mistake.what))
        .at(mistake.place(name))
        .fact(mistake.facts[0])
        .fact(mistake.facts[1])
        .advise("write the file again with --out or --json");
  } catch (const std::exception& error) {
    return fail(Code::VerdictsInvalid, name + " cannot be read: " + escaped(error.what()))
        .at(name)
        .advise("write the file again with --out or --json");
  }
  const Json* schema = root.is_object() ? Fields::find(root, "schema") : nullptr;
  if (schema == nullptr || *schema != "bridge-verdicts/1") {
    const std::string found =
        schema == nullptr
            ? "no schema"
            : escaped(schema->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 60));
    return fail(Code::VerdictsInvalid, name + " is not a verdicts file that this version reads")
        .at(name)
        .pair(found, "\"bridge-verdicts/1\"")
        .advise("give the verdicts.json of a run of this version");
  }
  Fields fields(name);
  Run run;
  read_head(fields, root, run);
  read_model(fields, root, run);
  read_tables(fields, root, run);
  const Json* mutation = Fields::find(root, "mutation");
  if (mutation != nullptr && !mutation->is_null()) {
    BV_TRY(read, mutation_from_json(*mutation, name));
    run.mutation = std::move(read);
  }
  check_counts(fields, root, run);
  if (!fields.ok()) {
    return fields.error();
  }
  return run;
}

}  // namespace bv
