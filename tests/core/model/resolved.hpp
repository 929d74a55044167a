#pragma once
// Models resolved from changed headers, and what was found in them.

#include "tests/core/model/sample.hpp"

namespace bv::model::test {

inline void add(Headers& headers, const std::string& name, Shape shape = {1}) {
  headers[name] = {name, DType::BF16, std::move(shape)};
}

inline Model must(Result<Model> model) {
  if (!model) {
    throw std::runtime_error(model.error().message);
  }
  return *std::move(model);
}

inline std::string detected(const Model& model, const std::string& what) {
  for (const Detected& entry : model.detected) {
    if (entry.what == what) {
      return entry.value;
    }
  }
  return "";
}

inline std::string reason(const Model& model, const std::string& what) {
  for (const Detected& entry : model.detected) {
    if (entry.what == what) {
      return entry.because;
    }
  }
  return "";
}

inline const Mapping* mapping_of(const Model& model, const std::string& parameter) {
  for (const Mapping& mapping : model.mappings) {
    if (model.megatron_name(mapping) == parameter) {
      return &mapping;
    }
  }
  return nullptr;
}

}  // namespace bv::model::test
