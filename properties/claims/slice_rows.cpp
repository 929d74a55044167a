#include "properties/claims/slice_rows.hpp"

#include <set>

#include "core/lora/adapter.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

/// A matrix whose elements are numbered row by row.
oracle::TaggedTensor numbered(std::int64_t rows, std::int64_t columns) {
  oracle::TaggedTensor out{{rows, columns}, {}};
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    out.tags.push_back(i);
  }
  return out;
}

/// The rows, or columns, of the numbered matrix that a factor has elements of.
std::vector<std::int64_t> lines_of(const oracle::TaggedTensor& factor, std::int64_t width,
                                   bool columns) {
  std::set<std::int64_t> out;
  for (const std::int64_t tag : factor.tags) {
    if (tag >= 0) {
      out.insert(columns ? tag % width : tag / width);
    }
  }
  return {out.begin(), out.end()};
}

}  // namespace

SliceRows::SliceRows(const AdapterSubject& subject, std::int64_t ranks)
    : subject_(subject), ranks_(ranks) {
  for (const auto& [layer, pairs] : pairs_by_expert(*subject.adapter, subject.base->model)) {
    for (const LayerPair& one : pairs) {
      places_[one.pair] = {layer.first, layer.second, one.hf};
    }
  }
}

/// The rank of the adapter plays no part in where rows go: one that the ranks divide.
oracle::AdapterQuestion SliceRows::question(const Place& place, const lora::AdapterPair& pair,
                                            std::int64_t rank) const {
  const model::Model& model = subject_.base->model;
  const model::Mapping& mapping = model.mappings[place.mapping];
  oracle::AdapterQuestion out;
  out.weight.parameter = model.megatron_name(mapping, place.expert);
  out.weight.numbers = model.geometry.with(mapping.rule->sizes);
  out.weight.hf_names = mapping.hf;
  out.weight.shard_size = ranks_;
  out.weight.shard_rank = rank;
  out.weight.expert = place.expert;
  out.weight.model_type = subject_.base->model_type;
  out.weight.stated = stated(model);
  for (const std::string& name : mapping.hf) {
    const auto header = subject_.base->headers.find(name);
    const Shape shape = header == subject_.base->headers.end() ? Shape{} : header->second.shape;
    out.hf_rows.push_back(shape.size() < 2  ? 0
                          : pair.transposed ? shape.back()
                                            : shape[shape.size() - 2]);
  }
  out.rank = ranks_;
  out.in = pair.a.columns;
  oracle::AdapterPart& part = out.parts.emplace_back();
  part.hf = place.hf;
  part.first_row = pair.first_row;
  part.row_step = pair.row_step;
  part.a = numbered(ranks_, pair.a.columns);
  part.b = numbered(pair.b.rows, ranks_);
  return out;
}

std::optional<RankRows> SliceRows::ask(const Place& place, const lora::AdapterPair& pair) const {
  RankRows out;
  for (std::int64_t rank = 0; rank < ranks_; ++rank) {
    const auto wanted = oracle::wanted_factors(question(place, pair, rank));
    if (!wanted) {
      return std::nullopt;
    }
    out.rows.push_back(lines_of(wanted->b, ranks_, false));
    out.columns.push_back(lines_of(wanted->a, pair.a.columns, true));
  }
  return out;
}

std::optional<RankRows> SliceRows::of(const lora::AdapterPair& pair) {
  const auto place = places_.find(&pair);
  if (place == places_.end()) {
    return std::nullopt;
  }
  const model::Mapping& mapping = subject_.base->model.mappings[place->second.mapping];
  const auto [known, is_new] = known_.try_emplace(std::tuple(
      static_cast<const void*>(mapping.rule), place->second.hf, pair.b.rows, pair.a.columns));
  if (is_new) {
    known->second = ask(place->second, pair);
  }
  return known->second;
}

}  // namespace bv::claims
