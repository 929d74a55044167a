#include "properties/claims/tag_runs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/base/arith.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

constexpr std::size_t kShownRuns = 6;

/// The one dimension in which `next` lies `length` behind `first`, all others equal.
std::optional<std::size_t> run_dimension(const std::vector<std::int64_t>& first,
                                         const std::vector<std::int64_t>& next,
                                         std::int64_t length) {
  std::optional<std::size_t> out;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (next[i] == first[i]) {
      continue;
    }
    if (out || next[i] != first[i] + length) {
      return std::nullopt;
    }
    out = i;
  }
  return out;
}

std::string short_name(const std::string& tensor) {
  const std::size_t end = tensor.ends_with(".weight") ? tensor.size() - 7 : tensor.size();
  const std::size_t dot = tensor.rfind('.', end == 0 ? 0 : end - 1);
  return tensor.substr(dot == std::string::npos ? 0 : dot + 1,
                       end - (dot == std::string::npos ? 0 : dot + 1));
}

/// ",20": the place in the dimensions behind a run, unless it begins them.
std::string columns_text(const std::vector<std::int64_t>& index, std::size_t last) {
  std::string out;
  bool begins = true;
  for (std::size_t i = last + 1; i < index.size(); ++i) {
    out += fmt::format(",{}", index[i]);
    begins = begins && index[i] == 0;
  }
  return begins ? "" : out;
}

}  // namespace

ElementRef element_of(std::int64_t tag, const std::vector<std::string>& names,
                      const std::vector<Shape>& shapes) {
  if (tag < 0) {
    return {tag == kUnwritten ? "nothing" : "zero", {}};
  }
  const auto tensor = static_cast<std::size_t>(tag / kTensorTag);
  return {names[tensor], index_of(tag % kTensorTag, shapes[tensor])};
}

std::string runs_text(const std::vector<std::int64_t>& sequence,
                      const std::vector<std::string>& names, const std::vector<Shape>& shapes) {
  std::string text;
  std::size_t shown = 0;
  for (std::size_t at = 0; at < sequence.size();) {
    const ElementRef first = element_of(sequence[at], names, shapes);
    std::int64_t length = 1;
    std::optional<std::size_t> dimension;
    for (; at + static_cast<std::size_t>(length) < sequence.size(); ++length) {
      const ElementRef next =
          element_of(sequence[at + static_cast<std::size_t>(length)], names, shapes);
      const auto along = next.tensor == first.tensor
                             ? run_dimension(first.index, next.index, length)
                             : std::nullopt;
      const bool zeros = first.index.empty() && next.tensor == first.tensor;
      if (!zeros && (!along || (dimension && *dimension != *along))) {
        break;
      }
      dimension = along;
    }
    if (++shown > kShownRuns) {
      return text + " ...";
    }
    std::string index;
    const std::size_t last = dimension.value_or(0);
    for (std::size_t i = 0; i <= last && i < first.index.size(); ++i) {
      index += fmt::format("{}{}", i > 0 ? "," : "", first.index[i]);
      index += i == last ? fmt::format(":{}", first.index[i] + length) : "";
    }
    index += columns_text(first.index, last);
    text += fmt::format("{}{}[{}]", text.empty() ? "" : " ", short_name(first.tensor),
                        first.index.empty() ? std::to_string(length) : index);
    at += static_cast<std::size_t>(length);
  }
  return text;
}

Sequences sequences_at(const std::vector<std::int64_t>& found,
                       const std::vector<std::int64_t>& wanted, const Shape& shape,
                       std::size_t wrong) {
  const std::size_t rows = shape.empty() ? 1 : static_cast<std::size_t>(shape[0]);
  const std::size_t width = found.size() / std::max<std::size_t>(rows, 1);
  Sequences out;
  for (std::size_t row = 0; row < rows; ++row) {
    out.found.push_back(found[row * width]);
    out.wanted.push_back(wanted[row * width]);
  }
  if (out.found == out.wanted) {
    const std::size_t begin = wrong / width * width;
    out.found.assign(found.begin() + static_cast<std::ptrdiff_t>(begin),
                     found.begin() + static_cast<std::ptrdiff_t>(begin + width));
    out.wanted.assign(wanted.begin() + static_cast<std::ptrdiff_t>(begin),
                      wanted.begin() + static_cast<std::ptrdiff_t>(begin + width));
  }
  return out;
}

oracle::TaggedTensor slice_of(const oracle::TaggedTensor& tensor, std::int64_t index) {
  oracle::TaggedTensor out{{tensor.shape.begin() + 1, tensor.shape.end()}, {}};
  const std::int64_t elements = std::ssize(tensor.tags) / tensor.shape.front();
  out.tags.assign(tensor.tags.begin() + index * elements,
                  tensor.tags.begin() + (index + 1) * elements);
  if (out.shape.empty()) {
    out.shape = {1};
  }
  return out;
}

}  // namespace bv::claims
