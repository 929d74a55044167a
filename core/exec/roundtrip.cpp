#include "core/exec/roundtrip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/exec/move.hpp"

namespace bv::exec {
namespace {

constexpr std::byte kPoison{0xA5};

std::vector<std::int64_t> index_of(std::int64_t flat, const Shape& shape) {
  std::vector<std::int64_t> out(shape.size(), 0);
  for (std::size_t i = shape.size(); i-- > 0;) {
    out[i] = shape[i] == 0 ? 0 : flat % shape[i];
    flat = shape[i] == 0 ? flat : flat / shape[i];
  }
  return out;
}

/// One mapping on the way: HF bytes, and how many elements of each HF tensor were read back.
class Trip {
 public:
  Trip(const Plan& plan, std::size_t index, const io::Checkpoint& checkpoint,
       std::int64_t window_bytes)
      : plan_(plan),
        mapping_(plan.model().mappings[index]),
        bound_(plan.bound(mapping_)),
        checkpoint_(checkpoint) {
    for (const std::string& hf : mapping_.hf) {
      const io::StoredTensor& stored = checkpoint.tensors().find(hf)->second;
      bytes_.push_back(checkpoint.bytes(stored));
      sizes_.push_back(static_cast<std::size_t>(bytes(stored.spec.dtype)));
    }
    back_.resize(bytes_.size());
    window_ = std::max<std::int64_t>(1, window_bytes / 8);
  }

  std::optional<MoveFault> shard(const Target& target) {
    const layout::Shard shard = plan_.shard(target);
    const std::int64_t elements = element_count(shard.shape).value();
    for (std::int64_t begin = 0; begin < elements; begin += window_) {
      const std::int64_t end = std::min(elements, begin + window_);
      pieces_.clear();
      for (const layout::Box& box : shard.boxes) {
        layout::clip_to_target(box, begin, end, pieces_);
      }
      if (auto fault = window(begin, end)) {
        fault->tensor = fault->tensor.empty() ? target.global_name : fault->tensor;
        fault->rank = fmt::format("{}{}", mapping_.rule->expert ? "etp" : "tp", target.t);
        return fault;
      }
    }
    return std::nullopt;
  }

  /// Every HF element must have come back once from the distinct shards.
  std::optional<MoveFault> finish(std::int64_t replicas, MoveCount& count) {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const auto wanted = static_cast<std::int64_t>(bytes_[i].size() / sizes_[i]) * replicas;
      if (back_[i] != wanted) {
        return MoveFault{
            mapping_.hf[i], "", {}, fmt::format("{} of {} elements come back", back_[i], wanted)};
      }
      count.bytes += bytes_[i].size();
      ++count.tensors;
      checkpoint_.release(bytes_[i]);
    }
    return std::nullopt;
  }

 private:
  std::optional<MoveFault> window(std::int64_t begin, std::int64_t end) {
    const auto count = static_cast<std::size_t>(end - begin);
    shard_.assign(count * 8, kPoison);
    written_ = 0;
    for (const layout::Box& piece : pieces_) {
      const std::size_t size = size_of(piece);
      copy_box(piece,
               piece.source < 0 ? nullptr : bytes_[static_cast<std::size_t>(piece.source)].data(),
               shard_.data(), begin, size);
      written_ += piece.elements();
    }
    if (written_ != static_cast<std::int64_t>(count)) {
      return MoveFault{"",
                       "",
                       {begin},
                       fmt::format("{} of {} elements stay unwritten",
                                   static_cast<std::int64_t>(count) - written_, count)};
    }
    for (const layout::Box& piece : pieces_) {
      if (auto fault = read_back(piece, begin)) {
        return fault;
      }
    }
    return std::nullopt;
  }

  /// The inverse box reads the shard and must find each HF element's own bits. Replicated source
  /// axes are compared position by position through the forward box.
  std::optional<MoveFault> read_back(const layout::Box& piece, std::int64_t base) {
    const std::size_t size = size_of(piece);
    if (piece.source < 0) {
      if (const auto at = first_difference(piece, nullptr, shard_.data(), base, size)) {
        return MoveFault{"", "", {*at}, "padding is not zero"};
      }
      return std::nullopt;
    }
    const auto source = static_cast<std::size_t>(piece.source);
    layout::Box back = layout::inverse(piece, 0);
    back_[source] += back.elements();
    back.source_offset -= base;
    const Shape& shape = checkpoint_.tensors().find(mapping_.hf[source])->second.spec.shape;
    if (const auto at = first_difference(back, shard_.data(), bytes_[source].data(), 0, size)) {
      return MoveFault{mapping_.hf[source], "", index_of(*at, shape), "does not come back"};
    }
    const bool repeats =
        std::any_of(piece.axes.begin(), piece.axes.end(),
                    [](const layout::BoxAxis& axis) { return axis.source_stride == 0; });
    if (repeats) {
      if (const auto at =
              first_difference(piece, bytes_[source].data(), shard_.data(), base, size)) {
        return MoveFault{mapping_.hf[source], "", {*at}, "copies inside the shard differ"};
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::size_t size_of(const layout::Box& piece) const {
    return piece.source < 0 ? sizes_.front() : sizes_[static_cast<std::size_t>(piece.source)];
  }

  const Plan& plan_;
  const model::Mapping& mapping_;
  const layout::BoundRule& bound_;
  const io::Checkpoint& checkpoint_;
  std::int64_t window_ = 0;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<std::size_t> sizes_;
  std::vector<std::int64_t> back_;
  std::vector<layout::Box> pieces_;
  std::vector<std::byte> shard_;
  std::int64_t written_ = 0;
};

}  // namespace

std::optional<MoveFault> check_round_trip(const Plan& plan, std::size_t index,
                                          const io::Checkpoint& checkpoint,
                                          std::int64_t window_bytes, MoveCount& count) {
  Trip trip(plan, index, checkpoint, window_bytes);
  const layout::Rule& line = plan.bound(plan.model().mappings[index]).rule();
  const bool replicated = std::any_of(line.targets[0].grid.begin(), line.targets[0].grid.end(),
                                      [](const layout::GridAxis& axis) { return axis.replica; });
  std::set<std::pair<std::int64_t, std::int64_t>> seen;
  std::set<std::int64_t> ranks;
  for (const Plan::Owner& owner : plan.owners()[index]) {
    const Target& target = plan.files()[owner.file].targets[owner.target];
    if (!seen.insert({target.t, target.expert}).second) {
      continue;  // the same content on another data-parallel, expert or pipeline rank
    }
    ranks.insert(target.t);
    if (auto fault = trip.shard(target)) {
      return fault;
    }
  }
  return trip.finish(replicated ? static_cast<std::int64_t>(ranks.size()) : 1, count);
}

}  // namespace bv::exec
