#include "oracles/tagged.hpp"

#include <algorithm>
#include <array>

namespace bv::oracle {
namespace {

std::string parts_text(const Question& question) {
  std::string text;
  for (const std::string& name : question.hf_names) {
    text += (text.empty() ? "" : ", ") + std::string(part_of(name));
  }
  return text.empty() ? "none" : text;
}

std::int64_t elements(const TaggedTensor& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) {
    if (extent < 0 || __builtin_mul_overflow(count, extent, &count)) {
      throw Unanswered("a tagged tensor has an impossible shape");
    }
  }
  return count;
}

}  // namespace

std::string_view part_of(std::string_view hf_name) {
  for (const std::string_view suffix : {".weight", ".bias", "_bias"}) {
    if (hf_name.ends_with(suffix)) {
      hf_name.remove_suffix(suffix.size());
      break;
    }
  }
  return hf_name.substr(hf_name.rfind('.') + 1);
}

Tensor tensor_of(const TaggedTensor& tagged) {
  const std::int64_t count = elements(tagged);
  if (count != std::ssize(tagged.tags)) {
    throw Unanswered("a tagged tensor has " + std::to_string(tagged.tags.size()) + " tags for " +
                     std::to_string(count) + " elements");
  }
#ifdef BV_ORACLE_ATEN
  return at::tensor(tagged.tags, at::kLong).reshape(tagged.shape);
#else
  return {tagged.shape, tagged.tags};
#endif
}

TaggedTensor tagged(const Tensor& tensor) {
#ifdef BV_ORACLE_ATEN
  const at::Tensor flat = tensor.contiguous();
  const auto* first = flat.data_ptr<std::int64_t>();
  return {flat.sizes().vec(), std::vector<std::int64_t>(first, first + flat.numel())};
#else
  return {tensor.sizes(), tensor.elements()};
#endif
}

bool has_part(const Question& question, std::string_view part) {
  return std::ranges::any_of(question.hf_names,
                             [&](const std::string& name) { return part_of(name) == part; });
}

Tensor part(const Question& question, std::string_view part) {
  const auto is_part = [&](const std::string& name) { return part_of(name) == part; };
  if (std::ranges::count_if(question.hf_names, is_part) != 1) {
    throw Unanswered("wanted one HF tensor that is " + std::string(part) + ", found " +
                     parts_text(question));
  }
  const auto found = std::ranges::find_if(question.hf_names, is_part);
  return tensor_of(question.hf.at(static_cast<std::size_t>(found - question.hf_names.begin())));
}

Tensor only_source(const Question& question) {
  if (question.hf.size() != 1) {
    throw Unanswered("wanted one HF tensor, found " + parts_text(question));
  }
  return tensor_of(question.hf.front());
}

std::int64_t number(const Question& question, std::string_view symbol) {
  const auto found = question.numbers.find(symbol);
  if (found == question.numbers.end()) {
    throw Unanswered("the geometry has no " + std::string(symbol));
  }
  if (found->second < 1 || found->second > (std::int64_t{1} << 31)) {
    throw Unanswered(std::string(symbol) + " is " + std::to_string(found->second) +
                     ", wanted a positive size");
  }
  return found->second;
}

std::int64_t exact(std::int64_t a, std::int64_t b, const std::string& what) {
  if (b < 1 || a % b != 0) {
    throw Unanswered(what + ": " + std::to_string(a) + " is not a multiple of " +
                     std::to_string(b));
  }
  return a / b;
}

Tensor block(const Tensor& whole, std::int64_t dim, const Question& question) {
  if (dim >= whole.dim()) {
    throw Unanswered("the parameter has " + std::to_string(whole.dim()) +
                     " axes, wanted more than " + std::to_string(dim));
  }
  const std::int64_t extent = exact(whole.size(dim), question.shard_size, "cut over the ranks");
  return whole.narrow(dim, question.shard_rank * extent, extent);
}

Tensor sections(const std::vector<Tensor>& parts, const Question& question) {
  std::vector<Tensor> blocks;
  for (const Tensor& one : parts) {
    blocks.push_back(block(one, 0, question));
  }
  return ops::cat(blocks, 0);
}

Tensor split_rows(const Tensor& tensor, std::vector<std::int64_t> rows) {
  if (tensor.dim() < 1) {
    throw Unanswered("a HF tensor has no axes");
  }
  rows.insert(rows.end(), tensor.sizes().begin() + 1, tensor.sizes().end());
  return tensor.reshape(rows);
}

}  // namespace bv::oracle
