#pragma once
// Tagged HF tensors for tests, and tags read back as words.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "oracles/oracle.hpp"
#include "tests/oracles/aten.hpp"

namespace bv::oracle {

inline constexpr std::int64_t kTensorStride = std::int64_t{1} << 40;

inline TaggedTensor tagged_source(std::int64_t tensor_number, std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count *= extent;
  }
  TaggedTensor out{std::move(shape), {}};
  out.tags.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    out.tags.push_back(tensor_number * kTensorStride + i);
  }
  return out;
}

/// Adds a HF tensor to a question, numbered by its place.
inline void add_source(Question& question, std::string name, std::vector<std::int64_t> shape) {
  question.hf.push_back(tagged_source(std::ssize(question.hf_names), std::move(shape)));
  question.hf_names.push_back(std::move(name));
}

/// "q_proj[3]" for flat element 3 of the source whose name ends in q_proj(.weight), "zero" for
/// padding.
inline std::string word(const Question& question, std::int64_t tag) {
  if (tag < 0) {
    return "zero";
  }
  std::string name = question.hf_names.at(static_cast<std::size_t>(tag / kTensorStride));
  if (name.ends_with(".weight")) {
    name.resize(name.size() - 7);
  }
  return name.substr(name.rfind('.') + 1) + "[" + std::to_string(tag % kTensorStride) + "]";
}

/// Every element of the wanted shard as a word, or why there is none.
inline std::vector<std::string> words(const Question& question) {
  const auto shard = wanted_shard(question);
  EXPECT_EQ(aten_shard(question), shard) << question.parameter;
  if (!shard) {
    return {why_unanswered(question)};
  }
  std::vector<std::string> out;
  for (const std::int64_t tag : shard->tags) {
    out.push_back(word(question, tag));
  }
  return out;
}

}  // namespace bv::oracle
