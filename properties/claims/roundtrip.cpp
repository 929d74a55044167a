#include "properties/claims/roundtrip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "core/layout/notation.hpp"
#include "core/move/move.hpp"

namespace bv::claims {
namespace {

constexpr std::byte kPoison{0xA5};
constexpr std::byte kOtherPoison{0x5A};

/// Does an element hold nothing but poison?
bool is_poison(const std::byte* element, std::size_t size, std::byte poison) {
  return std::all_of(element, element + size, [&](std::byte one) { return one == poison; });
}

/// A window and the bytes that it is made of stay in the first-level cache.
constexpr std::int64_t kWindowBytes = std::int64_t{16} << 10;
/// The same where axes change places: a smaller window would read each line of the source again and
/// again.
constexpr std::int64_t kTurnedBytes = std::int64_t{256} << 10;
/// Mapped pages are given back after so many bytes.
constexpr std::int64_t kReleaseBytes = std::int64_t{16} << 20;

/// A window of a shard; elements of each width have a buffer of their own.
class Window {
 public:
  void prepare(std::size_t size, std::size_t count, std::byte poison) {
    std::vector<std::byte>& bytes = buffers_[size];
    bytes.resize(std::max(bytes.size(), count * size));
    std::memset(bytes.data(), std::to_integer<int>(poison), count * size);
  }
  std::byte* data(std::size_t size) { return buffers_.find(size)->second.data(); }

 private:
  std::map<std::size_t, std::vector<std::byte>> buffers_;
};

/// One mapping on the way: HF bytes, and how many elements of each HF tensor were read back.
class Trip {
 public:
  Trip(const plan::Plan& plan, std::size_t index, const io::Checkpoint& checkpoint,
       std::int64_t window_bytes)
      : plan_(plan), mapping_(plan.model().mappings[index]), checkpoint_(checkpoint) {
    for (const std::string& hf : mapping_.hf) {
      const io::StoredTensor& stored = checkpoint.tensors().find(hf)->second;
      bytes_.push_back(checkpoint.bytes(stored));
      sources_.push_back(bytes_.back().data());
      shapes_.push_back(&stored.spec.shape);
      sizes_.push_back(static_cast<std::size_t>(bytes(stored.spec.dtype)));
    }
    widths_.insert(sizes_.begin(), sizes_.end());
    back_.resize(bytes_.size());
    const std::vector<bool> copied = layout::copied_sources(plan.bound(mapping_).rule());
    seen_.resize(copied.size());
    for (std::size_t i = 0; i < copied.size(); ++i) {
      seen_[i].assign(copied[i] ? bytes_[i].size() / sizes_[i] : 0, false);
    }
    window_max_ = std::max<std::int64_t>(1, window_bytes / 8);
  }

  /// Shards that read neighbouring elements go window by window in step, so that the bytes of the
  /// checkpoint pass once.
  std::optional<MoveFault> shards(const std::vector<const plan::Target*>& targets) {
    const auto widest = static_cast<std::int64_t>(*widths_.rbegin());
    std::vector<layout::Shard> made;
    std::int64_t longest = 0;
    bool turned = false;
    for (const plan::Target* target : targets) {
      made.push_back(plan_.shard(*target));
      longest = std::max(longest, element_count(made.back().shape).value());
      turned = turned || move::has_tiles(made.back().boxes, *widths_.begin());
    }
    const std::int64_t window =
        std::min(window_max_, (turned ? kTurnedBytes : kWindowBytes) / widest);
    for (std::int64_t begin = 0; begin < longest; begin += window) {
      for (std::size_t i = 0; i < made.size(); ++i) {
        const std::int64_t elements = element_count(made[i].shape).value();
        if (auto fault = window_of(made[i], begin, std::min(elements, begin + window))) {
          fault->tensor = fault->tensor.empty() ? targets[i]->global_name : fault->tensor;
          fault->rank = fmt::format("{}{}", mapping_.rule->expert ? "etp" : "tp", targets[i]->t);
          return fault;
        }
      }
    }
    return std::nullopt;
  }

  /// Every HF element must have come back once from the distinct shards, or at least once where a
  /// shard holds copies of it.
  std::optional<MoveFault> finish(std::int64_t replicas, MoveCount& count) {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const auto wanted = static_cast<std::int64_t>(bytes_[i].size() / sizes_[i]) *
                          (seen_[i].empty() ? replicas : 1);
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
  std::optional<MoveFault> window_of(const layout::Shard& shard, std::int64_t begin,
                                     std::int64_t end) {
    if (begin >= end) {
      return std::nullopt;
    }
    pieces_.clear();
    for (const layout::Box& box : shard.boxes) {
      layout::pieces_in(box, begin, end, pieces_);
    }
    const auto count = static_cast<std::size_t>(end - begin);
    for (const std::size_t size : widths_) {
      window_.prepare(size, count, kPoison);
    }
    fill(window_, begin);
    std::int64_t written = 0;
    for (const layout::BoxPiece& piece : pieces_) {
      written += piece.elements();
    }
    if (written != static_cast<std::int64_t>(count)) {
      return MoveFault{"",
                       "",
                       {begin},
                       fmt::format("{} of {} elements stay unwritten",
                                   static_cast<std::int64_t>(count) - written, count)};
    }
    if (auto fault = unwritten_in(begin, count)) {
      return fault;
    }
    for (const layout::BoxPiece& piece : pieces_) {
      if (auto fault = read_back(piece, begin)) {
        return fault;
      }
    }
    release_some(static_cast<std::int64_t>(count * sizes_.front()));
    return std::nullopt;
  }

  /// Moves the pieces to the buffer of their width; those of one width go together.
  void fill(Window& window, std::int64_t begin) {
    if (widths_.size() == 1) {
      const std::size_t size = *widths_.begin();
      move::copy_pieces(isa_, pieces_, sources_, window.data(size), begin, size);
      return;
    }
    for (const layout::BoxPiece& piece : pieces_) {
      const std::size_t size = size_of(piece);
      move::copy_pieces(isa_, {&piece, 1}, sources_, window.data(size), begin, size);
    }
  }

  /// The poison must be gone. Data may look like poison: then the window is filled over another
  /// poison as well, and only an element that nobody writes differs. Windows of mixed widths have a
  /// buffer each, of which every element is written in one only; their boxes are swept by the
  /// coverage claim.
  std::optional<MoveFault> unwritten_in(std::int64_t begin, std::size_t count) {
    const std::size_t size = *widths_.begin();
    const std::byte* const window = window_.data(size);
    if (widths_.size() > 1 ||
        !move::holds_filler(isa_, window, static_cast<std::int64_t>(count), size, kPoison)) {
      return std::nullopt;
    }
    other_.prepare(size, count, kOtherPoison);
    fill(other_, begin);
    const move::RowRuns whole{1, static_cast<std::int64_t>(count * size), 0, 0};
    if (move::equal_rows(isa_, whole, window, other_.data(size))) {
      return std::nullopt;
    }
    const auto at = first_unwritten(count, size, [&](std::byte* bytes) {
      move::copy_pieces(isa_, pieces_, sources_, bytes, begin, size);
    });
    return at ? std::optional(MoveFault{"", "", {begin + *at}, "stays unwritten"}) : std::nullopt;
  }

  /// The inverse box reads the shard and must find each HF element's own bits. Replicated source
  /// axes are compared position by position through the forward box.
  std::optional<MoveFault> read_back(const layout::BoxPiece& piece, std::int64_t base) {
    const std::size_t size = size_of(piece);
    const std::byte* shard = window_.data(size);
    if (piece.source < 0) {
      if (const auto at = move::first_difference(isa_, piece, nullptr, shard, base, size)) {
        return MoveFault{"", "", {*at}, "padding is not zero"};
      }
      return std::nullopt;
    }
    const auto source = static_cast<std::size_t>(piece.source);
    layout::inverse(piece, 0, back_box_);
    back_[source] += seen_[source].empty() ? back_box_.elements() : newly_seen(source);
    back_box_.source_offset -= base;
    if (const auto at = move::first_difference(isa_, layout::whole(back_box_), shard,
                                               bytes_[source].data(), 0, size)) {
      return MoveFault{mapping_.hf[source], "", index_of(*at, *shapes_[source]),
                       "does not come back"};
    }
    const bool repeats =
        std::any_of(piece.axes.begin(), piece.axes.end(),
                    [](const layout::BoxAxis& axis) { return axis.source_stride == 0; });
    if (repeats) {
      if (const auto at =
              move::first_difference(isa_, piece, bytes_[source].data(), shard, base, size)) {
        return MoveFault{mapping_.hf[source], "", {*at}, "copies inside the shard differ"};
      }
    }
    return std::nullopt;
  }

  /// Elements of the box that no copy has brought back before.
  std::int64_t newly_seen(std::size_t source) {
    std::int64_t fresh = 0;
    runs_.clear();
    layout::target_runs(back_box_, runs_);
    for (const layout::Run& run : runs_) {
      for (std::int64_t at = run.begin; at < run.end; ++at) {
        std::vector<bool>::reference seen = seen_[source][static_cast<std::size_t>(at)];
        fresh += seen ? 0 : 1;
        seen = true;
      }
    }
    return fresh;
  }

  void release_some(std::int64_t moved) {
    unreleased_ += moved;
    if (unreleased_ < kReleaseBytes) {
      return;
    }
    unreleased_ = 0;
    for (const std::span<const std::byte> bytes : bytes_) {
      checkpoint_.release(bytes);
    }
  }

  [[nodiscard]] std::size_t size_of(const layout::BoxPiece& piece) const {
    return piece.source < 0 ? sizes_.front() : sizes_[static_cast<std::size_t>(piece.source)];
  }

  const plan::Plan& plan_;
  const model::Mapping& mapping_;
  const io::Checkpoint& checkpoint_;
  const move::Isa isa_ = move::best_isa();
  std::int64_t window_max_ = 0;
  std::int64_t unreleased_ = 0;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<const std::byte*> sources_;  // their first bytes
  std::vector<const Shape*> shapes_;
  std::vector<std::size_t> sizes_;
  std::set<std::size_t> widths_;
  std::vector<std::int64_t> back_;
  std::vector<std::vector<bool>> seen_;  // by source; empty unless a shard holds copies of it
  std::vector<layout::Run> runs_;
  std::vector<layout::BoxPiece> pieces_;
  layout::Box back_box_;
  Window window_;
  Window other_;  // filled over the other poison
};

}  // namespace

std::optional<std::int64_t> first_unwritten(std::size_t count, std::size_t size,
                                            const std::function<void(std::byte*)>& fill) {
  std::vector<std::byte> one(count * size, kPoison);
  std::vector<std::byte> other(count * size, kOtherPoison);
  fill(one.data());
  fill(other.data());
  for (std::size_t i = 0; i < count; ++i) {
    if (is_poison(&one[i * size], size, kPoison) &&
        is_poison(&other[i * size], size, kOtherPoison)) {
      return static_cast<std::int64_t>(i);
    }
  }
  return std::nullopt;
}

std::optional<MoveFault> check_round_trip(const plan::Plan& plan, std::size_t index,
                                          const io::Checkpoint& checkpoint,
                                          std::int64_t window_bytes, MoveCount& count) {
  Trip trip(plan, index, checkpoint, window_bytes);
  const layout::Rule& line = plan.bound(plan.model().mappings[index]).rule();
  const bool replicated = std::any_of(line.targets[0].grid.begin(), line.targets[0].grid.end(),
                                      [](const layout::GridAxis& axis) { return axis.replica; });
  // Distinct contents only: the others lie on another data-parallel, expert or pipeline rank.
  std::map<std::int64_t, std::map<std::int64_t, const plan::Target*>> of_expert;  // expert -> t
  std::set<std::int64_t> ranks;
  for (const plan::Plan::Owner& owner : plan.owners()[index]) {
    const plan::Target& target = plan.files()[owner.file].targets[owner.target];
    of_expert[target.expert].try_emplace(target.t, &target);
    ranks.insert(target.t);
  }
  for (const auto& [expert, of_rank] : of_expert) {
    std::vector<const plan::Target*> targets;
    for (const auto& [rank, target] : of_rank) {
      targets.push_back(target);
    }
    if (auto fault = trip.shards(targets)) {
      return fault;
    }
  }
  return trip.finish(replicated ? static_cast<std::int64_t>(ranks.size()) : 1, count);
}

}  // namespace bv::claims
