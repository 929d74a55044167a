#pragma once
// Inside the forward oracles only: checked reads of config.json.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "oracles/forward/facts.hpp"
#include "oracles/model_style.hpp"

namespace bv::oracle::forward {

using Json = nlohmann::json;

// Products of three sizes stay in 63 bits; what multiplies further (heads, patches, merges) has its
// own limit.
inline constexpr std::int64_t kSizeMax = std::int64_t{1} << 24;
inline constexpr std::int64_t kHeadDimMax = std::int64_t{1} << 16;
inline constexpr std::int64_t kPatchSizeMax = 256;
inline constexpr std::int64_t kMergeMax = 8;
inline constexpr std::int64_t kLayersMax = 4096;
inline constexpr std::int64_t kMtpDepthsMax = 16;

/// Reads fields of one JSON object and keeps the first fault; a faulty read gives a harmless value,
/// so that reading can go on and the caller looks at error() once.
class Fields {
 public:
  Fields(const Json& object, std::string path) : object_(&object), path_(std::move(path)) {}

  [[nodiscard]] const Json* find(std::string_view key) const;
  [[nodiscard]] bool is_null(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::optional<std::int64_t> otherwise = {});
  std::int64_t size(std::string_view key, std::optional<std::int64_t> otherwise = {},
                    std::int64_t most = kSizeMax);
  /// A size, or the first of a list of them.
  std::int64_t first_size(std::string_view key);
  double real(std::string_view key, double otherwise);
  double positive(std::string_view key, double otherwise);
  bool flag(std::string_view key, bool otherwise);
  std::string text(std::string_view key, std::string otherwise);
  std::vector<std::int64_t> integers(std::string_view key);
  /// `count` numbers, each `otherwise` where the field is absent.
  std::vector<double> reals(std::string_view key, std::size_t count, double otherwise);
  /// The field holds what no config of this kind can hold.
  void refuse(std::string_view key, const std::string& wanted);
  /// The field holds what a config may hold and no form here computes with.
  void lack(std::string_view key, const std::string& computed);
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// Takes over the first fault of a nested object.
  void adopt(const Fields& inner);

 private:
  [[nodiscard]] std::string shown(std::string_view key) const;

  const Json* object_;
  std::string path_;
  std::optional<Error> error_;
};

// The parts of read_facts; each fills its fields, in the order that they are listed.
void read_attention(Fields& fields, const ModelStyle& style, ModelFacts& facts);
void read_delta(Fields& fields, const ModelStyle& style, ModelFacts& facts);
/// Fills rope, sliding_rope and what the rope changes in attention_scale.
void read_ropes(Fields& fields, const Form& form, ModelFacts& facts);
/// Fills mixers, window and turns.
void read_layers(Fields& fields, const ModelStyle& style, ModelFacts& facts);
/// Fills blocks, mamba and the mixers that are Mamba's.
void read_mamba(Fields& fields, const ModelStyle& style, ModelFacts& facts);
/// Nemotron-H: one word or letter a layer; an empty list without them.
[[nodiscard]] Json hybrid_kinds(Fields& fields);
void read_moe(Fields& fields, const ModelStyle& style, ModelFacts& facts);
/// Gemma 4: fills sizes and what belongs to them. Behind the mixers and the MLP.
void read_layer_sizes(Fields& fields, ModelFacts& facts);
/// DeciLM: the same, and which layers lack attention or their MLP.
void read_block_configs(Fields& fields, ModelFacts& facts);
/// MiMo-V2: which layers slide, with sinks and key/value heads of their own; the size of values.
void read_layer_pattern(Fields& fields, ModelFacts& facts);

}  // namespace bv::oracle::forward
