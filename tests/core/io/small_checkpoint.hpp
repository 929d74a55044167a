#pragma once
// Checkpoints of one or two tiny shards.

#include "tests/core/io/scratch.hpp"

namespace bv::io::testing {

/// A file with one U8 tensor of `count` bytes 0, 1, 2, ...
inline std::string one_tensor(const std::string& name, std::size_t count = 4) {
  const std::string n = std::to_string(count);
  return safetensors(
      "{\"" + name + R"(":{"dtype":"U8","shape":[)" + n + R"(],"data_offsets":[0,)" + n + "]}}",
      count);
}

inline std::string index_of(const std::vector<std::pair<std::string, std::string>>& map,
                            const std::string& metadata = "{}") {
  std::string text = "{\"metadata\":" + metadata + ",\"weight_map\":{";
  for (std::size_t i = 0; i < map.size(); ++i) {
    text += (i == 0 ? "\"" : ",\"") + map[i].first + "\":\"" + map[i].second + "\"";
  }
  return text + "}}";
}

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

/// Two shards, "a" in the first and "b" in the second.
inline void write_two_shards(const ScratchFolder& folder) {
  folder.write(kFirst, one_tensor("a"));
  folder.write(kSecond, one_tensor("b"));
  folder.write(kIndex, index_of({{"a", kFirst}, {"b", kSecond}}, R"({"total_size":8.0})"));
}

}  // namespace bv::io::testing
