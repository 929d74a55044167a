#include "core/io/tensor_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::io {
namespace {

Error invalid(const TensorSpec& tensor, const std::string& file, const std::string& what) {
  return fail(Code::ChunksInvalid, fmt::format("{}: {}", in_quotes(tensor.name), what))
      .at(file)
      .advise("save the checkpoint again");
}

std::string place_text(const ChunkPlace& place) {
  return fmt::format("{} at {}", shape_text(place.extent), shape_text(place.origin));
}

/// The chunk is inside the tensor; its elements.
Result<std::int64_t> elements_inside(const TensorSpec& tensor, const ChunkPlace& place,
                                     const std::string& file) {
  const std::size_t dims = tensor.shape.size();
  if (place.origin.size() != dims || place.extent.size() != dims) {
    return invalid(tensor, file, "a chunk has another number of dimensions than the tensor")
        .pair(place_text(place), shape_text(tensor.shape));
  }
  for (std::size_t i = 0; i < dims; ++i) {
    const auto end = checked_add(place.origin[i], place.extent[i]);
    if (place.origin[i] < 0 || place.extent[i] < 0 || !end || *end > tensor.shape[i]) {
      return invalid(tensor, file, "a chunk reaches out of the tensor")
          .pair(place_text(place), "inside " + shape_text(tensor.shape));
    }
  }
  const auto count = element_count(place.extent);
  return count ? Result<std::int64_t>(*count)
               : Result<std::int64_t>(invalid(tensor, file, "a chunk is too large"));
}

bool meet(const ChunkPlace& a, const ChunkPlace& b) {
  for (std::size_t i = 0; i < a.origin.size(); ++i) {
    if (a.origin[i] >= b.origin[i] + b.extent[i] || b.origin[i] >= a.origin[i] + a.extent[i]) {
      return false;
    }
  }
  return true;
}

/// Looks for two places that share an element. Places fall apart into groups along each dimension,
/// so a grid costs its sorting; what is no grid is compared in pairs, up to a bound.
class Overlap {
 public:
  using Order = std::vector<std::size_t>;
  explicit Overlap(std::span<const ChunkPlace> places) : places_(places) {}

  /// Places of `order`, which share all of the dimensions before `dim`.
  bool look(Order order, std::size_t dim) {
    if (order.size() < 2 || too_many_) {
      return false;
    }
    if (dim == places_.front().origin.size()) {
      return note(order[0], order[1]);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return places_[a].origin[dim] < places_[b].origin[dim];
    });
    for (std::size_t at = 0; at < order.size();) {
      const std::size_t next = group_end(order, at, dim);
      Order group(order.begin() + static_cast<std::ptrdiff_t>(at),
                  order.begin() + static_cast<std::ptrdiff_t>(next));
      if (is_same(group, dim) ? look(std::move(group), dim + 1) : compare_pairs(group, dim)) {
        return true;
      }
      at = next;
    }
    return false;
  }
  [[nodiscard]] bool too_many() const { return too_many_; }
  [[nodiscard]] std::pair<std::size_t, std::size_t> found() const { return found_; }

 private:
  static constexpr std::int64_t kPairsMax = std::int64_t{1} << 26;

  [[nodiscard]] std::int64_t end(std::size_t i, std::size_t dim) const {
    return places_[i].origin[dim] + places_[i].extent[dim];
  }
  /// The first place after `at` that begins where all before it have ended.
  [[nodiscard]] std::size_t group_end(const Order& order, std::size_t at, std::size_t dim) const {
    std::int64_t reach = end(order[at], dim);
    std::size_t next = at + 1;
    for (; next < order.size() && places_[order[next]].origin[dim] < reach; ++next) {
      reach = std::max(reach, end(order[next], dim));
    }
    return next;
  }
  [[nodiscard]] bool is_same(const Order& group, std::size_t dim) const {
    return std::all_of(group.begin(), group.end(), [&](std::size_t i) {
      return places_[i].origin[dim] == places_[group[0]].origin[dim] &&
             places_[i].extent[dim] == places_[group[0]].extent[dim];
    });
  }
  bool compare_pairs(const Order& group, std::size_t dim) {
    for (std::size_t a = 0; a < group.size(); ++a) {
      for (std::size_t b = a + 1;
           b < group.size() && places_[group[b]].origin[dim] < end(group[a], dim); ++b) {
        too_many_ = too_many_ || ++pairs_ > kPairsMax;
        if (too_many_) {
          return false;
        }
        if (meet(places_[group[a]], places_[group[b]])) {
          return note(group[a], group[b]);
        }
      }
    }
    return false;
  }
  bool note(std::size_t a, std::size_t b) {
    found_ = {a, b};
    return true;
  }

  std::span<const ChunkPlace> places_;
  std::pair<std::size_t, std::size_t> found_;
  std::int64_t pairs_ = 0;
  bool too_many_ = false;
};

}  // namespace

Status check_chunk_places(const TensorSpec& tensor, std::span<const ChunkPlace> places,
                          const std::string& file) {
  const auto total = element_count(tensor.shape);
  if (!total) {
    return invalid(tensor, file, "the tensor is too large");
  }
  if (places.empty()) {
    return invalid(tensor, file, "the tensor has no chunk");
  }
  std::int64_t covered = 0;
  Overlap::Order order;
  for (std::size_t i = 0; i < places.size(); ++i) {
    BV_TRY(elements, elements_inside(tensor, places[i], file));
    covered = capped_add(covered, elements);
    if (elements > 0) {
      order.push_back(i);
    }
  }
  Overlap overlap(places);
  if (overlap.look(std::move(order), 0)) {
    const auto [a, b] = overlap.found();
    return invalid(tensor, file, "two chunks overlap")
        .pair(fmt::format("{} and {}", place_text(places[a]), place_text(places[b])),
              "each element in one chunk");
  }
  if (overlap.too_many()) {
    return invalid(tensor, file, "the chunks lie too irregularly to be checked");
  }
  if (covered != *total) {
    return invalid(tensor, file, "the chunks leave a gap")
        .pair(thousands(covered) + " elements in chunks",
              fmt::format("{} elements of {}", thousands(*total), shape_text(tensor.shape)));
  }
  return Done{};
}

Status check_chunks(const TensorSpec& tensor, std::span<const Chunk> chunks,
                    const std::string& file) {
  std::vector<ChunkPlace> places;
  for (const Chunk& chunk : chunks) {
    places.push_back({chunk.origin, chunk.extent});
  }
  BV_CHECK(check_chunk_places(tensor, places, file));
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const std::uint64_t wanted = tensor_bytes({tensor.name, tensor.dtype, chunks[i].extent});
    if (chunks[i].bytes.size() != wanted) {
      return invalid(tensor, file, "a chunk has another size than its extent says")
          .pair(counted(std::uint64_t{chunks[i].bytes.size()}, "byte"),
                fmt::format("{} for {}", counted(wanted, "byte"), shape_text(chunks[i].extent)));
    }
  }
  return Done{};
}

}  // namespace bv::io
