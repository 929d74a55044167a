#pragma once
// What crosses between the tests and the formulas over LibTorch, whose namespace is another one.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

struct AtenTensor {
  std::vector<std::int64_t> shape, tags;
};

struct AtenQuestion {
  std::string parameter;
  std::map<std::string, std::int64_t, std::less<>> numbers;
  std::vector<std::string> hf_names;
  std::vector<AtenTensor> hf;
  std::int64_t shard_size, shard_rank, expert, padded_vocab;
  bool in_out_stack;
  std::string model_type;
};

std::optional<AtenTensor> aten_answer(const AtenQuestion& question);
