#include "properties/claims/roundtrip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/layout/notation.hpp"
#include "core/move/move.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::claims {
namespace {

/// Does an element hold nothing but poison?
bool is_poison(const std::byte* element, std::size_t size, std::byte poison) {
  return std::all_of(element, element + size, [&](std::byte one) { return one == poison; });
}

DType bits_of_width(std::size_t width) {
  return width == 1 ? DType::U8 : width == 2 ? DType::U16 : width == 4 ? DType::U32 : DType::U64;
}

/// A window and the bytes that it is made of stay in the first-level cache.
constexpr std::int64_t kWindowBytes = std::int64_t{16} << 10;
/// The same where axes change places: a smaller window would read each line of the source again and
/// again.
constexpr std::int64_t kTransposedBytes = std::int64_t{256} << 10;
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

/// The first fault, or none. Errors: those of the device, which say nothing of the elements.
using Found = Result<std::optional<MoveFault>>;

/// One mapping on the way: HF bytes, and how many elements of each HF tensor were read back.
class Trip {
 public:
  Trip(const plan::Plan& plan, std::size_t index, const io::Checkpoint& checkpoint,
       std::int64_t window_bytes, move::Executor* device)
      : plan_(plan),
        mapping_(plan.model().mappings[index]),
        checkpoint_(checkpoint),
        device_(device) {
    for (const std::string& hf : mapping_.hf) {
      const TensorSpec* spec = checkpoint.find(hf);
      bytes_.push_back(whole_.emplace_back(checkpoint::SourceTensor{&checkpoint, spec}).bytes());
      shapes_.push_back(&spec->shape);
      sizes_.push_back(static_cast<std::size_t>(bytes(spec->dtype)));
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
  Found shards(const std::vector<const plan::Target*>& targets) {
    const auto widest = static_cast<std::int64_t>(*widths_.rbegin());
    std::vector<ByWidth> made;
    std::int64_t longest = 0;
    bool transposed = false;
    for (const plan::Target* target : targets) {
      made.push_back(makers_of(plan_.shard(*target)));
      longest = std::max(longest, made.back().begin()->second.elements());
      transposed = transposed || made.back().begin()->second.is_transposed();
    }
    const std::int64_t cached = (transposed ? kTransposedBytes : kWindowBytes) / widest;
    const std::int64_t window = device_ == nullptr ? std::min(window_max_, cached) : window_max_;
    for (std::int64_t begin = 0; begin < longest; begin += window) {
      for (std::size_t i = 0; i < made.size(); ++i) {
        const std::int64_t elements = made[i].begin()->second.elements();
        BV_TRY(fault, window_of(made[i], begin, std::min(elements, begin + window)));
        if (fault) {
          fault->tensor = fault->tensor.empty() ? targets[i]->global_name : fault->tensor;
          fault->rank = fmt::format("{}{}", mapping_.rule->expert ? "etp" : "tp", targets[i]->t);
          return std::move(fault);
        }
      }
    }
    return std::optional<MoveFault>();
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
  /// A shard has one buffer for each width of its sources, made of the boxes of that width.
  using ByWidth = std::map<std::size_t, move::TensorMaker>;

  [[nodiscard]] ByWidth makers_of(const layout::Shard& shard) const {
    ByWidth out;
    for (const std::size_t width : widths_) {
      move::Recipe recipe;
      recipe.dtype = bits_of_width(width);
      recipe.elements = element_count(shard.shape).value();
      recipe.gaps = move::Gaps::Keep;
      std::copy_if(shard.boxes.begin(), shard.boxes.end(), std::back_inserter(recipe.boxes),
                   [&](const layout::Box& box) { return size_of(box.source) == width; });
      for (const auto& bytes : bytes_) {
        recipe.sources.push_back({bytes.data(), recipe.dtype});
      }
      out.emplace(width, move::TensorMaker(std::move(recipe), device_));
    }
    return out;
  }

  Found window_of(ByWidth& shard, std::int64_t begin, std::int64_t end) {
    if (begin >= end) {
      return std::optional<MoveFault>();
    }
    const auto count = static_cast<std::size_t>(end - begin);
    std::int64_t written = 0;
    for (auto& [width, maker] : shard) {
      window_.prepare(width, count, kPoison);
      BV_CHECK(maker.make(ElementOffset(begin), ElementOffset(end), window_.data(width)));
      for (const layout::BoxPiece& piece : maker.pieces()) {
        written += piece.elements();
      }
    }
    if (written != static_cast<std::int64_t>(count)) {
      return std::optional(
          MoveFault{"",
                    "",
                    {begin},
                    fmt::format("{} of {} elements stay unwritten",
                                static_cast<std::int64_t>(count) - written, count)});
    }
    BV_TRY(open, unwritten_in(shard, begin, count));
    if (open) {
      return std::move(open);
    }
    for (const auto& [width, maker] : shard) {
      for (const layout::BoxPiece& piece : maker.pieces()) {
        if (auto fault = read_back(piece, begin)) {
          return fault;
        }
      }
    }
    release_some(static_cast<std::int64_t>(count * sizes_.front()));
    return std::optional<MoveFault>();
  }

  /// The poison must be gone. Data may look like poison: then the window is filled over another
  /// poison as well, and only an element that nobody writes differs. Windows of mixed widths have a
  /// buffer each, of which every element is written in one only: an element is unwritten when it is
  /// so in all of them.
  Found unwritten_in(ByWidth& shard, std::int64_t begin, std::size_t count) {
    std::vector<bool> open;
    for (auto& [width, maker] : shard) {
      if (!move::holds_filler(isa_, window_.data(width), static_cast<std::int64_t>(count), width,
                              kPoison)) {
        return std::optional<MoveFault>();  // each element of this buffer is written
      }
      other_.prepare(width, count, kOtherPoison);
      BV_CHECK(maker.make(ElementOffset(begin),
                          ElementOffset(begin + static_cast<std::int64_t>(count)),
                          other_.data(width)));
      const move::RowRuns whole{1, static_cast<std::int64_t>(count * width), 0, 0};
      if (move::equal_rows(isa_, whole, window_.data(width), other_.data(width))) {
        return std::optional<MoveFault>();
      }
      const auto still = unwritten(window_.data(width), other_.data(width), count, width);
      for (std::size_t i = 0; open.size() == count && i < count; ++i) {
        open[i] = open[i] && still[i];
      }
      open = open.empty() ? still : open;
    }
    const auto at = std::find(open.begin(), open.end(), true);
    return at == open.end()
               ? std::optional<MoveFault>()
               : std::optional(MoveFault{"", "", {begin + (at - open.begin())}, "stays unwritten"});
  }

  /// The inverse box reads the shard and must find each HF element's own bits. Replicated source
  /// axes are compared position by position through the forward box.
  std::optional<MoveFault> read_back(const layout::BoxPiece& piece, std::int64_t base) {
    const std::size_t size = size_of(piece.source);
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

  [[nodiscard]] std::size_t size_of(std::int32_t source) const {
    return source < 0 ? sizes_.front() : sizes_[static_cast<std::size_t>(source)];
  }

  const plan::Plan& plan_;
  const model::Mapping& mapping_;
  const io::Checkpoint& checkpoint_;
  move::Executor* device_;
  const move::Isa isa_ = move::best_isa();
  std::int64_t window_max_ = 0;
  std::int64_t unreleased_ = 0;
  std::list<checkpoint::WholeTensor> whole_;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<const Shape*> shapes_;
  std::vector<std::size_t> sizes_;
  std::set<std::size_t> widths_;
  std::vector<std::int64_t> back_;
  std::vector<std::vector<bool>> seen_;  // by source; empty unless a shard holds copies of it
  std::vector<layout::Run> runs_;
  layout::Box back_box_;
  Window window_;
  Window other_;  // filled over the other poison
};

}  // namespace

std::vector<bool> unwritten(const std::byte* first, const std::byte* second, std::size_t count,
                            std::size_t size) {
  std::vector<bool> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = is_poison(first + i * size, size, kPoison) &&
             is_poison(second + i * size, size, kOtherPoison);
  }
  return out;
}

Result<std::optional<MoveFault>> check_round_trip(const plan::Plan& plan, std::size_t index,
                                                  const io::Checkpoint& checkpoint,
                                                  std::int64_t window_bytes, MoveCount& count,
                                                  move::Executor* device) {
  Trip trip(plan, index, checkpoint, window_bytes, device);
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
    BV_TRY(fault, trip.shards(targets));
    if (fault) {
      return std::move(fault);
    }
  }
  return trip.finish(replicated ? static_cast<std::int64_t>(ranks.size()) : 1, count);
}

}  // namespace bv::claims
