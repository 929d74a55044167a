#include "properties/claims/adapter_layers.hpp"

#include <algorithm>
#include <cstring>

#include "properties/claims/subject.hpp"
#include "properties/claims/tag_runs.hpp"

namespace bv::claims {

AdapterTags::AdapterTags(const lora::Adapter& adapter) {
  for (const auto& tensor : adapter.tensors) {
    numbers_.emplace(tensor->stored.spec.name, std::ssize(names));
    names.push_back(tensor->stored.spec.name);
    shapes.push_back(tensor->stored.spec.shape);
  }
}

std::int64_t AdapterTags::first(std::string_view name) const {
  const auto found = numbers_.find(name);
  return found == numbers_.end() ? kUnwritten : found->second * kTensorTag;
}

oracle::TaggedTensor AdapterTags::of(const lora::Factor& factor) const {
  oracle::TaggedTensor out;
  out.shape = {factor.rows, factor.columns};
  const std::int64_t origin = first(factor.key()) + factor.offset;
  for (std::int64_t row = 0; row < factor.rows; ++row) {
    for (std::int64_t column = 0; column < factor.columns; ++column) {
      out.tags.push_back(origin + row * factor.row_stride + column * factor.column_stride);
    }
  }
  return out;
}

PairsByExpert pairs_by_expert(const lora::Adapter& adapter, const model::Model& model) {
  std::map<std::string_view, std::pair<std::uint32_t, std::size_t>> places;
  for (std::uint32_t m = 0; m < model.mappings.size(); ++m) {
    for (std::size_t i = 0; i < model.mappings[m].hf.size(); ++i) {
      places[model.mappings[m].hf[i]] = {m, i};
    }
  }
  PairsByExpert out;
  for (const lora::AdapterPair& pair : adapter.pairs) {
    const auto place = places.find(pair.base);
    if (place != places.end()) {
      const std::uint32_t m = place->second.first;
      const std::int64_t expert = pair.expert >= 0 ? pair.expert : model.mappings[m].expert;
      out[{m, expert}].push_back({place->second.second, &pair});
    }
  }
  for (auto& [place, list] : out) {
    std::stable_sort(list.begin(), list.end(), [](const LayerPair& a, const LayerPair& b) {
      return std::pair{a.hf, a.pair->first_row} < std::pair{b.hf, b.pair->first_row};
    });
  }
  return out;
}

bool same_elements(const lora::Factor& a, const lora::Factor& b) {
  if (a.rows != b.rows || a.columns != b.columns || a.dtype != b.dtype) {
    return false;
  }
  if (a.first == b.first && a.row_stride == b.row_stride && a.column_stride == b.column_stride) {
    return true;
  }
  const auto size = static_cast<std::size_t>(bytes(a.dtype));
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t column = 0; column < a.columns; ++column) {
      if (std::memcmp(a.at(row, column), b.at(row, column), size) != 0) {
        return false;
      }
    }
  }
  return true;
}

void SliceIdentity::add(std::int64_t number) {
  text_.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void SliceIdentity::add(const lora::Factor& factor, std::int64_t first_tag) {
  const auto at =
      roles_.try_emplace(first_tag, static_cast<std::int64_t>(roles_.size()), factor.offset).first;
  for (const std::int64_t number :
       {at->second.first, factor.offset - at->second.second, factor.rows, factor.columns,
        factor.row_stride, factor.column_stride}) {
    add(number);
  }
}

void SliceIdentity::add(const layout::Box& box, std::int64_t first_tag, std::int64_t origin) {
  const auto role = roles_.find(first_tag);
  const bool known = box.source >= 0 && role != roles_.end();
  add(std::int64_t{known});
  add(known ? role->second.first : first_tag);
  add(known ? box.source_offset - role->second.second : box.source_offset);
  add(box.target_offset - origin);
  for (const layout::BoxAxis& axis : box.axes) {
    add(axis.extent);
    add(axis.source_stride);
    add(axis.target_stride);
  }
  add(-1);
}

}  // namespace bv::claims
