// What a manifest says of a quantised form is input like the rest of it: read strictly, and held
// against the HF side before anything is made from it.

#include <gtest/gtest.h>

#include <functional>

#include "core/checkpoint/dequantise.hpp"
#include "tests/core/checkpoint/small_manifest.hpp"

namespace bv::checkpoint::quantised_rows {
namespace {

using Json = nlohmann::ordered_json;
using Edit = std::function<void(Json&)>;

const std::string kUp = "model.layers.0.mlp.up_proj.weight";
const std::string kScale = kUp + "_scale_inv";
const std::string kFile = "model-00001-of-00002.safetensors";
const std::string kZeros(32, '0');

nlohmann::json quantised_config() {
  nlohmann::json out = testing::small_config();
  out["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {8, 8}}};
  return out;
}

/// up_proj of the first layer in FP8, everything else as it is.
MegatronFolder small_quantised_folder() {
  MegatronFolder out = testing::small_folder();
  out.dtype.params = DType::BF16;
  QuantisedSide& side = out.quantised.emplace();
  side.headers[kUp] = {kUp, DType::F8E4M3, {12, 8}};
  side.headers[kScale] = {kScale, DType::F32, {2, 1}};
  for (const auto& [name, spec] : side.headers) {
    side.file_of[name] = kFile;
    side.digests[name] = io::print_of_text(name).digest;
  }
  side.metadata = out.hf_metadata;
  side.carried["config.json"] = io::print_of_text(quantised_config().dump());
  return out;
}

/// Parsed, held against config and rules, and the quantised form against the HF side.
Result<MegatronFolder> read(std::string_view text) {
  BV_TRY(folder, testing::read_manifest(text));
  if (folder.quantised) {
    BV_TRY(weights, kept_weights(folder, quantised_config(), "manifest.json"));
    EXPECT_EQ(weights.size(), 1U);
  }
  return std::move(folder);
}

/// quantised.headers_digest made new, as one who changes quantised.tensors can do.
void seal(Json& manifest) {
  QuantisedSide side;
  for (const auto& [name, row] : manifest["quantised"]["tensors"].items()) {
    side.headers[name] = {name, dtype_from_name(row[0].get<std::string>()).value(),
                          row[1].get<Shape>()};
    side.file_of[name] = row[2].get<std::string>();
    side.digests[name] = row[3].get<std::string>();
  }
  manifest["quantised"]["headers_digest"] = placed_headers_digest(side);
}

struct Hostile {
  std::string name;
  std::string code;
  std::string says;
  Edit edit;
};

/// An edit of quantised.tensors with the digest that fits it.
Edit tensors(const std::function<void(Json&)>& change) {
  return [change](Json& j) {
    change(j["quantised"]["tensors"]);
    seal(j);
  };
}

Edit raw(const std::function<void(Json&)>& change) {
  return [change](Json& j) { change(j["quantised"]); };
}

std::vector<Hostile> parse_rows() {
  return {
      {"a_list", "BV7030", "", [](Json& j) { j["quantised"] = Json::array(); }},
      {"null", "BV7030", "", [](Json& j) { j["quantised"] = nullptr; }},
      {"an_unknown_key", "BV7030", "did you mean tensors?", raw([](Json& q) { q["tensor"] = 1; })},
      {"no_tensors", "BV7030", "has no key tensors", raw([](Json& q) { q.erase("tensors"); })},
      {"no_files", "BV7030", "has no key files", raw([](Json& q) { q.erase("files"); })},
      {"no_carried", "BV7030", "has no key carried", raw([](Json& q) { q.erase("carried"); })},
      {"no_digest", "BV7030", "has no key headers_digest",
       raw([](Json& q) { q.erase("headers_digest"); })},
      {"another_digest", "BV7030", "headers_digest",
       raw([](Json& q) { q["headers_digest"] = kZeros; })},
      {"a_fingerprint_changed", "BV7030", "headers_digest",
       raw([](Json& q) { q["tensors"][kUp][3] = kZeros; })},
      {"a_fingerprint_that_is_none", "BV7030", "fingerprint",
       raw([](Json& q) { q["tensors"][kUp][3] = "x"; })},
      {"no_fingerprint", "BV7030", "[dtype, shape, file, fingerprint]",
       raw([](Json& q) { q["tensors"][kUp].erase(3); })},
      {"five_values", "BV7030", "", raw([](Json& q) { q["tensors"][kUp].push_back(1); })},
      {"an_unknown_type", "BV7030", "not an element type",
       raw([](Json& q) { q["tensors"][kUp][0] = "F5"; })},
      {"a_negative_extent", "BV7030", "", raw([](Json& q) {
         q["tensors"][kUp][1] = {-1, 8};
       })},
      {"a_shape_that_overflows", "BV7030", "63 bits", raw([](Json& q) {
         q["tensors"][kUp][1] = {std::int64_t{1} << 62, 8};
       })},
      {"a_file_that_is_not_listed", "BV7030", "does not list",
       raw([](Json& q) { q["tensors"][kUp][2] = "other.safetensors"; })},
      {"a_file_that_climbs", "BV7030", "",
       raw([](Json& q) { q["files"]["../x.safetensors"] = Json::object(); })},
      {"nothing_quantised", "BV7030", "lists no tensor",
       tensors([](Json& t) { t = Json::object(); })},
      {"no_config", "BV7030", "no config.json",
       raw([](Json& q) { q["carried"] = Json::object(); })},
      {"a_carried_file_that_climbs", "BV7030", "", raw([](Json& q) {
         q["carried"]["../config.json"] = Json::array({0, kZeros});
       })},
      {"carried_weights", "BV7030", "weights", raw([](Json& q) {
         q["carried"]["x.safetensors"] = Json::array({0, kZeros});
       })},
      {"a_carried_file_below_another", "BV7030", "cannot both", raw([](Json& q) {
         q["carried"]["config.json/x"] = Json::array({0, kZeros});
       })},
  };
}

std::vector<Hostile> meaning_rows() {
  return {
      {"a_weight_of_another_shape", "BV7031", "is not what hf.tensors has", tensors([](Json& t) {
         t[kUp][1] = {16, 8};
       })},
      {"a_weight_that_the_model_lacks", "BV7031", "is not what hf.tensors has",
       tensors([](Json& t) {
         t["other.weight"] = t[kUp];
         t["other.weight_scale_inv"] = t[kScale];
       })},
      {"no_scale", "BV7031", "a form that is known", tensors([](Json& t) { t.erase(kScale); })},
      {"a_scale_of_another_shape", "BV7031", "a form that is known", tensors([](Json& t) {
         t[kScale][1] = {5, 1};
       })},
      {"a_scale_of_integers", "BV7031", "a form that is known",
       tensors([](Json& t) { t[kScale][0] = "I64"; })},
      {"plain_values", "BV7031", "a form that is known",
       tensors([](Json& t) { t[kUp][0] = "BF16"; })},
      {"a_tensor_of_nobody", "BV7031", "is of no quantised weight", tensors([](Json& t) {
         t["model.odd.weight"] = {"BF16", {8}, kFile, kZeros};
       })},
      {"a_policy_that_dequantises_nothing", "BV7031", "a form that is known",
       [](Json& j) { j["dtype"] = "preserve"; }},
      {"a_policy_of_another_type", "BV7031", "is not what hf.tensors has",
       [](Json& j) { j["dtype"] = "float32"; }},
  };
}

TEST(QuantisedManifest, OfASmallModelIsRead) {
  const std::string text = manifest_text(small_quantised_folder());
  const auto folder = read(text);
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  EXPECT_EQ(manifest_text(*folder), text);
  const auto weights = kept_weights(*folder, quantised_config(), "manifest.json").value();
  EXPECT_EQ(weights.front().form.block_rows, 8);
  EXPECT_EQ(restored_headers(*folder, weights).at(kUp).dtype, DType::F8E4M3);
  EXPECT_EQ(restored_headers(*folder, weights).size(), folder->hf_headers.size() + 1);
}

TEST(QuantisedManifest, ThatIsHostileIsRefusedByName) {
  const std::string right = manifest_text(small_quantised_folder());
  std::vector<Hostile> rows = parse_rows();
  for (Hostile& row : meaning_rows()) {
    rows.push_back(std::move(row));
  }
  for (const Hostile& row : rows) {
    SCOPED_TRACE(row.name);
    Json json = Json::parse(right);
    row.edit(json);
    const auto folder = read(json.dump(2) + "\n");
    ASSERT_FALSE(folder.has_value());
    EXPECT_EQ(label(folder.error().code), row.code) << folder.error().message;
    EXPECT_NE((folder.error().message + folder.error().wanted).find(row.says), std::string::npos)
        << folder.error().message;
    EXPECT_FALSE(folder.error().help.empty());
  }
}

}  // namespace
}  // namespace bv::checkpoint::quantised_rows
