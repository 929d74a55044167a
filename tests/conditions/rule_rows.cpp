#include <fmt/format.h>

#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "tests/conditions/condition.hpp"
#include "tests/conditions/own_family.hpp"

namespace bv::conditions {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

const std::string kDown = "decoder.layers.*.mlp.linear_fc2.weight";

/// A rule more, at the end.
RulesEdit more(const Json& rule) {
  return [rule](Json& rules) { rules.at("rules").push_back(rule); };
}

Json mystery(const std::string& kind, const Json& parameters = Json::object()) {
  return {{"id", "r99"},
          {"kind", kind},
          {"megatron", "decoder.layers.*.mystery.weight"},
          {"hf", "model.layers.*.mystery.weight"},
          {"parameters", parameters}};
}

RulesEdit hf_of(const std::string& megatron, const Json& hf) {
  return [=](Json& rules) { rule_of(rules, megatron)["hf"] = hf; };
}

/// Writes the checkpoint of kGateFamily, converts it, changes one row of the shard, converts back.
/// `row` 6 and 7 are two of the three copies of the first gate row; -1 changes none.
std::string gate_rows(std::int64_t row) {
  const support::TempFolder folder;
  const std::vector<family::FamilyPtr> families = {own_family(kGateFamily)};
  write_gate_checkpoint(folder.path() / "hf");
  const auto kinds = kinds::load_catalogue().value();
  const auto opened = checkpoint::open_hf(folder.path() / "hf", families, {});
  if (!opened || !opened->model.faults.empty()) {
    return "not opened: " +
           (opened ? opened->model.faults.front().message : opened.error().message);
  }
  const fs::path shards = folder.path() / "m";
  if (auto made = convert::to_megatron(*opened, kinds, {}, shards, {}); !made) {
    return text_of(made.error());
  }
  if (row >= 0) {
    const fs::path file = shards / "pp0_tp0_ep0_etp0.safetensors";
    EditedCheckpoint changed{Json::object(), support::read_tensors(file)};
    auto& qkv = changed.tensors.at("decoder.layers.0.self_attention.linear_qkv.weight");
    qkv.bytes[static_cast<std::size_t>(row) * 8] ^= std::byte{1};
    changed.write(folder.path() / "x");
    fs::copy_file(folder.path() / "x/model.safetensors", file,
                  fs::copy_options::overwrite_existing);
  }
  const auto megatron = checkpoint::open_megatron(shards, families, kinds);
  convert::ConvertOptions options;
  options.accept_changed = true;  // else the changed row is told by its fingerprint
  const auto report = megatron ? convert::to_hf(*megatron, kinds, folder.path() / "h", options)
                               : Result<convert::ConvertReport>(megatron.error());
  if (!report) {
    return text_of(report.error());
  }
  if (!report->replicas.empty()) {
    const convert::ReplicaFault& fault = report->replicas.front();
    return fmt::format("error[{}]: {} differs from {} at element {} of {}\n = help",
                       label(Code::ReplicasDiffer), fault.other_owner, fault.first_owner,
                       fault.element, fault.tensor);
  }
  return "";
}

/// The first rows of both halves of linear_fc1 change places: gate and up in blocks of one row.
void interleave(std::map<std::string, support::EditedTensor>& tensors) {
  auto& rows = tensors.at("decoder.layers.0.mlp.linear_fc1.weight");
  const std::size_t row = rows.bytes.size() / static_cast<std::size_t>(rows.shape[0]);
  const std::size_t half = static_cast<std::size_t>(rows.shape[0]) / 2;
  const std::vector<std::byte> before = rows.bytes;
  for (std::size_t i = 0; i < 2 * half; ++i) {
    const std::size_t from = i % 2 * half + i / 2;
    std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(from * row), row,
                rows.bytes.begin() + static_cast<std::ptrdiff_t>(i * row));
  }
}

std::vector<Row> pattern_rows() {
  return {
      {"E060",
       "BV1003",
       {"4 Megatron parameters have no rule: decoder.layers.0.self_attention.k_layernorm.weight"},
       judged("qwen3",
              [](Json& rules) {
                auto& list = rules.at("rules");
                list.erase(std::find_if(list.begin(), list.end(), [](const Json& rule) {
                  return rule.at("megatron") ==
                         "decoder.layers.*.self_attention.k_layernorm.weight";
                }));
              }),
       judged("qwen3", {})},
      {"E063",
       "BV1010",
       {"model.layers.0.mlp.down_proj.weight makes two Megatron parameters",
        "one parameter for each HF tensor"},
       judged("qwen3", hf_of("decoder.layers.*.self_attention.linear_proj.weight",
                             "model.layers.*.mlp.down_proj.weight")),
       judged("qwen3", hf_of("decoder.layers.*.self_attention.linear_proj.weight",
                             "model.layers.*.self_attn.o_proj.weight"))},
      {"E064",
       "BV1010",
       {"both make decoder.layers.*.mlp.linear_fc2.weight",
        "auto of model.layers.*.mlp.down_proj.weight",
        "and row of model.layers.*.other.weight",
        "one rule for each Megatron name"},
       judged("qwen3", more({{"id", "r99"},
                             {"kind", "row"},
                             {"megatron", kDown},
                             {"hf", "model.layers.*.other.weight"}})),
       judged("qwen3", [](Json& rules) { rules["rules"].push_back(rule_of(rules, kDown)); })},
      {"E065",
       "BV1009",
       {"1 wildcard in the Megatron name, 2 in the HF name"},
       judged("qwen3", hf_of(kDown, "model.layers.*.mlp.*.weight")),
       judged("qwen3", hf_of(kDown, "model.layers.*.mlp.down_proj.weight"))},
      {"E066",
       "BV1009",
       {"mixes * and **", "** is filled before *"},
       judged("qwen3", more({{"id", "r99"},
                             {"kind", "row"},
                             {"megatron", "decoder.layers.*.**.weight"},
                             {"hf", "model.layers.*.**.weight"}})),
       judged("qwen3", more({{"id", "r99"},
                             {"kind", "row"},
                             {"megatron", "decoder.**.mystery.weight"},
                             {"hf", "model.**.mystery.weight"}}))},
  };
}

std::vector<Row> kind_rows() {
  return {
      {"E070",
       "BV1017",
       {"how decoder.layers.*.mystery.weight is cut over the ranks is not known here",
        "write column, row or replicated as the kind of this rule"},
       judged("qwen3", more(mystery("auto"))),
       judged("qwen3", more(mystery("column")))},
      {"E071",
       "BV1018",
       {"rule r99 permutes the dimensions by [1, 2, 0], which does not undo itself",
        "[2, 0, 1] when applied twice"},
       judged("qwen3", more(mystery("column", {{"permute_dims", {1, 2, 0}}}))),
       judged("qwen3", more(mystery("column", {{"permute_dims", {0, 2, 1}}})))},
      {"E072",
       "BV2001",
       {"model.layers.0.mlp.experts.gate_up_proj_bias", "[8, 55]", "[8, 56]"},
       edited("gpt_oss",
              [](EditedCheckpoint& model) {
                auto& bias = model.tensors.at("model.layers.0.mlp.experts.gate_up_proj_bias");
                bias.shape[1] -= 1;
                bias.bytes.resize(static_cast<std::size_t>(8 * bias.shape[1] * bytes(bias.dtype)));
              },
              {"check", "--only", "names,shapes,coverage,bytes"}),
       command("gpt_oss", {"check", "--only", "names,shapes,coverage,bytes"}),
       "a bias is a line without trailing dimensions, so the kinds that upstream refuses move it "
       "(Conditions.BiasesOfEveryKindThatUpstreamRefusesMove); a wrong shape is still refused"},
      {"E074",
       "BV2010",
       {"decoder.layers.0.self_attention.linear_qkv.weight", "differs from"},
       [] { return gate_rows(7); },
       [] { return gate_rows(-1); },
       "no built-in family repeats gate rows; the family of the row does"},
      {"E075",
       "BV3001",
       {"decoder.layers.0.mlp.linear_fc1.weight"},
       compared({"llama",
                 {"--tp", "1", "--make-vocab-size-divisible-by", "1"},
                 "pp0_tp0_ep0_etp0",
                 interleave}),
       compared({"llama", {"--tp", "1", "--make-vocab-size-divisible-by", "1"}, {}}),
       "nothing here reads live parameters, and files are contiguous; a shard that was dumped from "
       "interleaved parameters differs from its model"},
  };
}

}  // namespace

std::vector<Row> rule_rows() {
  std::vector<Row> out = pattern_rows();
  for (Row& row : kind_rows()) {
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace bv::conditions
