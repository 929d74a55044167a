#pragma once
// An HF checkpoint that was opened: config, headers, mappings, and the bytes when they are there.

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/io/checkpoint.hpp"
#include "core/kinds/dequantise.hpp"
#include "core/model/model.hpp"

namespace bv::checkpoint {

/// A weight that is stored quantised, and stands in the headers as what it is dequantised to.
struct Dequantised {
  TensorSpec weight;
  TensorSpec stored;                    // the tensor with its values
  TensorSpec scale;                     // one of the companions
  std::vector<std::string> companions;  // tensors that stand in no header any more, sorted
  kinds::QuantisedForm form;
};

/// An HF model that was found, read and resolved.
struct HfModel {
  std::filesystem::path folder;
  std::string config_text;                                    // with what --set says
  std::vector<std::pair<std::string, std::string>> settings;  // --set PATH=VALUE
  family::FamilyPtr base;  // the family it was resolved with, also when rules of --rules took over
  std::string architecture;
  std::string model_type;
  model::Detected chosen;             // the family, and why
  Headers headers;                    // without those that --exclude takes
  std::vector<std::string> excluded;  // their names, in order
  std::string header_digest;
  std::optional<io::Checkpoint> checkpoint;  // absent for a headers dump
  std::size_t files = 0;                     // weight files that are there
  std::optional<Error> incomplete;  // shards that the index names are not there: names alone count
  std::vector<Dequantised> dequantised;  // by name of the weight
  std::string quantised_config;          // config_text with what it said of them
  model::ResolveOptions resolve;
  model::Model model;
  std::vector<std::string> notes;  // what is odd and no fault, a sentence each
};

/// XXH3-128 over name, dtype and shape of every tensor, in name order.
[[nodiscard]] std::string header_digest(const Headers& headers);

}  // namespace bv::checkpoint
