#include "core/foreign/rules_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/rules_entries.hpp"
#include "core/foreign/rules_keys.hpp"
#include "core/foreign/rules_text.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

class FileReader {
 public:
  FileReader(const json& top, std::string_view text, const std::string& file)
      : top_(top), text_(text), file_(file), lines_(text, file) {}

  Result<ForeignRules> run() {
    if (const std::string schema = text_at(top_, "schema"); schema != "bridge-rules/1") {
      return invalid(file_, fmt::format("{} is not a rules file", file_))
          .pair(!top_.is_object() ? fmt::format("a JSON {}", top_.type_name())
                : schema.empty()  ? "no \"schema\""
                                  : "schema " + shown(schema),
                "schema bridge-rules/1");
    }
    out_.file = file_;
    if (const json* upstream = member(top_, "upstream")) {
      out_.repository = text_at(*upstream, "repo");
      out_.commit = text_at(*upstream, "commit");
      out_.bridge_class = text_at(*upstream, "bridge_class");
    }
    if (const json* selects = member(top_, "selects")) {
      out_.architectures = texts_at(*selects, "architectures");
    }
    BV_CHECK(read_rules());
    BV_CHECK(read_facts());
    BV_CHECK(read_norms());
    BV_CHECK(read_row_facts());
    BV_CHECK(read_hooks());
    out_.trouble = texts_at(top_, "trouble");
    BV_CHECK(read_model());
    out_.warnings = unknown_keys(top_, text_, file_);
    return std::move(out_);
  }

 private:
  Status read_rules() {
    const json* rows = member(top_, "rules");
    const std::size_t count = rows != nullptr && rows->is_array() ? rows->size() : 0;
    if (count == 0 || count > kForeignRulesMax) {
      return invalid(file_, fmt::format("{} has no list of rules", file_))
          .pair(rows == nullptr     ? "no \"rules\""
                : !rows->is_array() ? fmt::format("\"rules\": a {}", rows->type_name())
                                    : counted(count, "rule"),
                fmt::format("\"rules\": a list of 1 to {} rules", kForeignRulesMax));
    }
    const std::vector<ListedPlace> places = places_in_list(text_, "rules");
    std::size_t double_stars = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const ListedPlace place = i < places.size() ? places[i] : ListedPlace{};
      BV_TRY(rule, read_rule((*rows)[i], place, lines_, i));
      double_stars += has_double_star(rule.megatron) ||
                              std::any_of(rule.hf.begin(), rule.hf.end(),
                                          [](const auto& hf) { return has_double_star(hf.second); })
                          ? 1U
                          : 0U;
      out_.rules.push_back(std::move(rule));
    }
    if (double_stars > kDoubleStarRulesMax) {
      return invalid(file_, fmt::format("{} has too many rules with **", file_))
          .pair(std::to_string(double_stars), fmt::format("at most {}", kDoubleStarRulesMax));
    }
    return Done{};
  }

  Status read_facts() {
    const json* facts = member(top_, "facts");
    const json* centered =
        facts == nullptr ? nullptr : member(*facts, "layernorm_zero_centered_gamma");
    if (facts != nullptr && !facts->is_object()) {
      return invalid(file_, "\"facts\" is not an object")
          .pair(dumped(*facts), R"({"layernorm_zero_centered_gamma": false})");
    }
    if (centered != nullptr && !centered->is_boolean()) {
      return invalid(file_, "facts.layernorm_zero_centered_gamma is neither true nor false")
          .pair(dumped(*centered), "true: norm weights are offsets from one in Megatron");
    }
    if (centered != nullptr) {
      out_.zero_centered_norms = centered->get<bool>();
    }
    return Done{};
  }

  /// facts.norms: {"hf": {pattern: "weight" or "offset"}, "megatron": {...}}.
  Status read_norms() {
    const json* facts = member(top_, "facts");
    const json* norms = facts == nullptr ? nullptr : member(*facts, "norms");
    if (norms == nullptr) {
      return Done{};
    }
    for (const auto& [side, list] :
         {std::pair("hf", &out_.norms.hf), std::pair("megatron", &out_.norms.megatron)}) {
      const json* rows = member(*norms, side);
      if (rows == nullptr || !rows->is_object()) {
        return wrong_norms(*norms);
      }
      for (const auto& [pattern, word] : rows->items()) {
        if ((word != "weight" && word != "offset") || wildcards(pattern) > kWildcardsMax) {
          return wrong_norms(*norms);
        }
        list->push_back({pattern, word == "offset"});
      }
    }
    return Done{};
  }

  [[nodiscard]] Error wrong_norms(const json& found) const {
    return invalid(file_, "facts.norms does not say how norm weights are kept")
        .pair(dumped(found), R"({"hf": {"model.norm.weight": "weight"}, "megatron": {...}}, )"
                             R"(each "weight" or "offset")");
  }

  void read_provider(const json& facts) {
    for (const char* key :
         {"num_attention_heads", "num_query_groups", "kv_channels", "hidden_size", "num_layers",
          "num_moe_experts", "vocab_size", "mtp_num_layers", "ffn_hidden_size",
          "moe_ffn_hidden_size", "moe_shared_expert_intermediate_size", "q_lora_rank",
          "kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim", "moe_latent_size"}) {
      const json* size = member(facts, key);
      if (size != nullptr && size->is_number_integer()) {
        out_.provider.sizes.emplace(key, size->get<std::int64_t>());
      }
    }
    for (const char* key :
         {"share_embeddings_and_output_weights", "add_qkv_bias", "add_bias_linear", "qk_layernorm",
          "gated_linear_unit", "attention_output_gate", "moe_router_enable_expert_bias"}) {
      const json* flag = member(facts, key);
      if (flag != nullptr && flag->is_boolean()) {
        out_.provider.flags.emplace(key, flag->get<bool>());
      }
    }
    const json* layers = member(facts, "moe_layer_freq");
    for (const json& one : layers != nullptr && layers->is_array() ? *layers : json::array()) {
      out_.provider.expert_layers.push_back(one.is_number_integer() ? one.get<std::int64_t>() : 1);
    }
    for (const auto& [key, out] : {std::pair("normalization", &out_.provider.normalization),
                                   std::pair("position_embedding_type", &out_.provider.positions),
                                   std::pair("layer_spec", &out_.provider.layer_spec)}) {
      const json* word = member(facts, key);
      *out = word != nullptr && word->is_string() ? word->get<std::string>() : "";
    }
  }

  Status read_row_facts() {
    const json* facts = member(top_, "facts");
    if (facts != nullptr) {
      read_provider(*facts);
    }
    const auto flag = [facts](const char* key) {
      const json* found = facts == nullptr ? nullptr : member(*facts, key);
      return found != nullptr && found->is_boolean() ? std::optional(found->get<bool>())
                                                     : std::nullopt;
    };
    out_.row_facts.rotary_interleaved = flag("rotary_interleaved");
    out_.row_facts.latent_attention = flag("multi_latent_attention").value_or(false);
    const json* size = facts == nullptr ? nullptr : member(*facts, "moe_mlp_glu_interleave_size");
    out_.row_facts.glu_interleave_size = size == nullptr ? "" : dumped(*size);
    const json* part = facts == nullptr ? nullptr : member(*facts, "rotary_percent");
    if (part != nullptr && part->is_number()) {
      out_.row_facts.rotary_part = part->get<double>();
    }
    const json* rows = facts == nullptr ? nullptr : member(*facts, "rotary_rows");
    for (const auto& [side, out] : {std::pair("hf", &out_.row_facts.hf_rows),
                                    std::pair("megatron", &out_.row_facts.megatron_rows)}) {
      const json* count = rows == nullptr ? nullptr : member(*rows, side);
      if (count != nullptr && count->is_number_integer()) {
        *out = count->get<std::int64_t>();
      }
    }
    return read_rotary(facts == nullptr ? nullptr : member(*facts, "rotary"));
  }

  /// facts.rotary: {"hf": "halves" or "neighbours", "megatron": ...}.
  Status read_rotary(const json* seen) {
    for (const auto& [side, out] : {std::pair("hf", &out_.row_facts.hf_neighbours),
                                    std::pair("megatron", &out_.row_facts.megatron_neighbours)}) {
      const json* word = seen == nullptr ? nullptr : member(*seen, side);
      if (seen == nullptr) {
        continue;
      }
      if (word == nullptr || (*word != "halves" && *word != "neighbours")) {
        return invalid(file_, "facts.rotary does not say which rows of a head turn together")
            .pair(dumped(*seen), R"({"hf": "halves", "megatron": "neighbours"})");
      }
      *out = *word == "neighbours";
    }
    return Done{};
  }

  /// A hook of the base class changes nothing.
  Status read_hooks() {
    const json none = json::object();
    const json* hooks = member(top_, "hooks");
    hooks = hooks == nullptr ? &none : hooks;
    const auto owner_of = [hooks](const char* hook) {
      const std::string owner = text_at(*hooks, hook);
      return owner == "base" ? "" : owner;
    };
    if (const std::string owner = owner_of("maybe_modify_loaded_hf_weight"); !owner.empty()) {
      BV_TRY(changes, rule_ids(*hooks, "changes"));
      out_.load_hook = LoadHook{owner, std::move(changes), texts_at(*hooks, "reads")};
    }
    if (const std::string owner = owner_of("maybe_modify_converted_hf_weight"); !owner.empty()) {
      BV_TRY(changes, rule_ids(*hooks, "exports"));
      out_.export_hook = ExportHook{owner, std::move(changes)};
    }
    const std::vector<std::string> known = texts_at(*hooks, "known");
    for (const char* method : {"build_conversion_tasks", "load_weights_hf_to_megatron",
                               "stream_weights_megatron_to_hf"}) {
      const std::string owner = owner_of(method);
      if (!owner.empty() && std::find(known.begin(), known.end(), method) == known.end()) {
        out_.own_methods.push_back(fmt::format("{} of {}", method, shown(owner)));
      }
    }
    return read_base(*hooks);
  }

  Status read_base(const json& hooks) {
    const json* rows = member(hooks, "base");
    if (rows == nullptr || rows->is_null()) {
      return Done{};
    }
    const bool listed =
        rows->is_array() && std::all_of(rows->begin(), rows->end(), [](const json& row) {
          return row.is_object() && !text_at(row, "name").empty();
        });
    if (!listed) {
      return invalid(file_, "hooks.base is not a list of parts of the library")
          .pair(dumped(*rows), R"([{"name": ..., "file": ..., "line": ..., "what": ...}])");
    }
    for (const json& row : *rows) {
      const std::string file = text_at(row, "file");
      const json* line = member(row, "line");
      const std::string place = line != nullptr && line->is_number_integer()
                                    ? fmt::format("{}:{}", file, line->dump())
                                    : file;
      out_.base_changes.push_back({text_at(row, "name"), place, text_at(row, "what")});
    }
    return Done{};
  }

  /// hooks.KEY: the rules that a hook changes something for; nullopt when it was not tried.
  Result<std::optional<std::vector<std::string>>> rule_ids(const json& hooks,
                                                           const char* key) const {
    const json* changes = member(hooks, key);
    if (changes == nullptr) {
      return std::optional<std::vector<std::string>>();
    }
    std::vector<std::string> out = texts_at(hooks, key);
    if (!changes->is_array() || out.size() != changes->size()) {
      return invalid(file_, fmt::format("hooks.{} is not a list of rule ids", key))
          .pair(dumped(*changes), R"(["r7"], or null when the hook was not tried)");
    }
    std::vector<std::string> ids;
    for (const ForeignRule& rule : out_.rules) {
      ids.push_back(rule.id);
    }
    for (const std::string& id : out) {
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
        const auto near = nearest(id, ids);
        return invalid(file_, fmt::format("hooks.{} names {}, which is not a rule", key, shown(id)))
            .pair(shown(id), near ? shown(*near) : "the id of a rule of this file");
      }
    }
    return std::optional(std::move(out));
  }

  Status read_model() {
    const json* model = member(top_, "model");
    const json* rows = model == nullptr ? nullptr : member(*model, "parameters");
    if (rows == nullptr) {
      return Done{};
    }
    if (!rows->is_array() || rows->empty() || rows->size() > kListedParametersMax) {
      return invalid(file_, "model.parameters is not a list of parameters")
          .pair(rows->is_array() ? counted(rows->size(), "entry") : dumped(*rows),
                fmt::format("a list of 1 to {} parameters", kListedParametersMax));
    }
    std::vector<ListedParameter> list;
    std::map<std::string_view, std::size_t> names;
    list.reserve(rows->size());
    for (std::size_t i = 0; i < rows->size(); ++i) {
      BV_TRY(parameter, read_parameter((*rows)[i], file_));
      list.push_back(std::move(parameter));
      if (!names.emplace(list.back().name, i).second) {
        return invalid(file_,
                       fmt::format("model.parameters lists {} twice", shown(list.back().name)))
            .pair("two entries", "one entry for each parameter");
      }
    }
    out_.parameters = std::move(list);
    return Done{};
  }

  const json& top_;
  std::string_view text_;
  const std::string& file_;
  LineNumbers lines_;
  ForeignRules out_;
};

}  // namespace

std::vector<std::string_view> megatron_patterns(const ForeignRules& rules) {
  std::vector<std::string_view> out;
  for (const ForeignRule& rule : rules.rules) {
    out.emplace_back(rule.megatron);
  }
  return out;
}

Result<ForeignRules> parse_rules_file(std::string_view text, const std::string& file) {
  BV_TRY(top, parse_rules_json(text, file));
  return FileReader(top, text, file).run();
}

}  // namespace bv::foreign
