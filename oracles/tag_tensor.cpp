#include "oracles/tag_tensor.hpp"

#ifndef BV_ORACLE_ATEN
#include <algorithm>
#include <numeric>

namespace bv::oracle::ops {
namespace {

using Sizes = std::vector<std::int64_t>;

std::string text(const Sizes& sizes) {
  std::string out = "[";
  for (const std::int64_t size : sizes) {
    out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return out + "]";
}

std::int64_t product(const Sizes& sizes) {
  std::int64_t out = 1;
  for (const std::int64_t size : sizes) {
    if (size < 0 || __builtin_mul_overflow(out, size, &out)) {
      throw Unanswered("a tensor cannot have the sizes " + text(sizes));
    }
  }
  return out;
}

Sizes row_major(const Sizes& sizes) {
  Sizes strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i > 1; --i) {
    strides[i - 2] = strides[i - 1] * std::max<std::int64_t>(sizes[i - 1], 1);
  }
  return strides;
}

/// The one -1 of `sizes` as what is left of `elements`.
Sizes filled(Sizes sizes, std::int64_t elements) {
  const auto open = std::ranges::find(sizes, -1);
  if (open != sizes.end()) {
    *open = 1;
    const std::int64_t others = product(sizes);
    *open = others == 0 ? 0 : elements / others;
  }
  if (product(sizes) != elements) {
    throw Unanswered(std::to_string(elements) + " elements cannot have the sizes " + text(sizes));
  }
  return sizes;
}

}  // namespace

Tensor::Tensor(Sizes sizes, Sizes elements)
    : storage_(std::make_shared<const Sizes>(std::move(elements))),
      sizes_(std::move(sizes)),
      strides_(row_major(sizes_)) {
  if (product(sizes_) != std::ssize(*storage_)) {
    throw Unanswered(std::to_string(storage_->size()) + " elements do not fill " + text(sizes_));
  }
}

std::size_t Tensor::checked(std::int64_t axis) const {
  if (axis < 0 || axis >= dim()) {
    throw Unanswered("a tensor of sizes " + text(sizes_) + " has no axis " + std::to_string(axis));
  }
  return static_cast<std::size_t>(axis);
}

std::int64_t Tensor::size(std::int64_t axis) const {
  return sizes_[checked(axis)];
}

std::int64_t Tensor::numel() const {
  return product(sizes_);
}

Sizes Tensor::elements() const {
  Sizes out;
  out.reserve(static_cast<std::size_t>(numel()));
  append_to(out);
  return out;
}

void Tensor::append_to(Sizes& out) const {
  if (sizes_.empty()) {
    out.push_back((*storage_)[static_cast<std::size_t>(offset_)]);
    return;
  }
  const std::int64_t end = std::ssize(out) + numel();
  Sizes at(sizes_.size(), 0);
  std::int64_t row = offset_;  // of the last axis
  while (std::ssize(out) < end) {
    if (strides_.back() == 1) {
      const auto first = storage_->begin() + row;
      out.insert(out.end(), first, first + sizes_.back());
    } else {
      for (std::int64_t i = 0; i < sizes_.back(); ++i) {
        out.push_back((*storage_)[static_cast<std::size_t>(row + i * strides_.back())]);
      }
    }
    for (std::size_t axis = at.size() - 1; axis-- > 0;) {
      row += strides_[axis];
      if (++at[axis] < sizes_[axis]) {
        break;
      }
      row -= sizes_[axis] * strides_[axis];
      at[axis] = 0;
    }
  }
}

Tensor Tensor::narrow(std::int64_t axis, std::int64_t start, std::int64_t length) const {
  const std::size_t i = checked(axis);
  if (start < 0 || length < 0 || start > sizes_[i] - length) {
    throw Unanswered("elements " + std::to_string(start) + " to " + std::to_string(start + length) +
                     " are not in axis " + std::to_string(axis) + " of " + text(sizes_));
  }
  Tensor out = *this;
  out.offset_ += start * strides_[i];
  out.sizes_[i] = length;
  return out;
}

Tensor Tensor::select(std::int64_t axis, std::int64_t index) const {
  Tensor out = narrow(axis, index, 1);
  out.sizes_.erase(out.sizes_.begin() + axis);
  out.strides_.erase(out.strides_.begin() + axis);
  return out;
}

Tensor Tensor::transpose(std::int64_t one, std::int64_t other) const {
  Tensor out = *this;
  std::swap(out.sizes_[checked(one)], out.sizes_[checked(other)]);
  std::swap(out.strides_[checked(one)], out.strides_[checked(other)]);
  return out;
}

Tensor Tensor::t() const {
  return dim() < 2 ? *this : transpose(0, 1);
}

Tensor Tensor::reshape(Sizes sizes) const {
  return {filled(std::move(sizes), numel()), elements()};
}

Tensor Tensor::flatten(std::int64_t first, std::int64_t last) const {
  const std::size_t begin = checked(first);
  const std::size_t end = checked(last) + 1;
  if (begin >= end) {
    throw Unanswered("axes " + std::to_string(first) + " to " + std::to_string(last) +
                     " are not in order");
  }
  Sizes sizes(sizes_.begin(), sizes_.begin() + first);
  sizes.push_back(product(Sizes(sizes_.begin() + first, sizes_.begin() + last + 1)));
  sizes.insert(sizes.end(), sizes_.begin() + last + 1, sizes_.end());
  return reshape(std::move(sizes));
}

std::vector<Tensor> Tensor::split_with_sizes(const Sizes& lengths, std::int64_t axis) const {
  if (product(lengths) < 0 ||
      std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}) != size(axis)) {
    throw Unanswered("axis " + std::to_string(axis) + " of " + text(sizes_) +
                     " does not split into " + text(lengths));
  }
  std::vector<Tensor> out;
  std::int64_t start = 0;
  for (const std::int64_t length : lengths) {
    out.push_back(narrow(axis, start, length));
    start += length;
  }
  return out;
}

std::vector<Tensor> Tensor::chunk(std::int64_t count, std::int64_t axis) const {
  const std::int64_t whole = size(axis);
  const std::int64_t length = std::max<std::int64_t>((whole + count - 1) / count, 1);
  std::vector<Tensor> out;
  for (std::int64_t start = 0; start < std::max<std::int64_t>(whole, 1); start += length) {
    out.push_back(narrow(axis, start, std::min(length, whole - start)));
  }
  return out;
}

Tensor Tensor::repeat_interleave(std::int64_t times, std::int64_t axis) const {
  std::vector<Tensor> pieces;
  for (std::int64_t i = 0; i < size(axis); ++i) {
    pieces.insert(pieces.end(), static_cast<std::size_t>(times), narrow(axis, i, 1));
  }
  return cat(pieces, axis);
}

Tensor cat(const std::vector<Tensor>& tensors, std::int64_t axis) {
  if (tensors.empty()) {
    throw Unanswered("there is nothing to put together");
  }
  Sizes sizes = tensors.front().sizes();
  const auto along = static_cast<std::size_t>(axis);
  std::int64_t rows = 0;
  for (const Tensor& one : tensors) {
    rows += one.size(axis);
    Sizes like = one.sizes();
    like[along] = sizes.at(along);
    if (like != sizes) {
      throw Unanswered("sizes " + text(one.sizes()) + " and " + text(sizes) +
                       " cannot be put together along axis " + std::to_string(axis));
    }
  }
  sizes[along] = rows;
  // Axis first: then a cat is one tensor's elements behind the other's.
  Sizes turned = sizes;
  std::swap(turned[0], turned[along]);
  Sizes elements;
  elements.reserve(static_cast<std::size_t>(product(turned)));
  for (const Tensor& one : tensors) {
    one.transpose(0, axis).append_to(elements);
  }
  return Tensor(std::move(turned), std::move(elements)).transpose(0, axis);
}

Tensor full_like(const Tensor&, const Sizes& sizes, std::int64_t value) {
  return {sizes, Sizes(static_cast<std::size_t>(product(sizes)), value)};
}

}  // namespace bv::oracle::ops
#endif
