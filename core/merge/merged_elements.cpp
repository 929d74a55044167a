#include "core/merge/merged_elements.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace bv::lora {

MergeStates::State& MergeStates::take(const MergedElements& of, std::int64_t slice) {
  const std::lock_guard lock(mutex_);
  const auto resting =
      std::find_if(states_.begin(), states_.end(), [&](const std::unique_ptr<State>& one) {
        return !one->runs && one->of == &of && one->slice == slice;
      });
  if (resting != states_.end()) {
    (*resting)->runs = true;
    return **resting;
  }
  states_.push_back(std::make_unique<State>(State{&of, slice, of.merge_, 0, 0, {}, true, 0}));
  return *states_.back();
}

std::size_t MergeStates::resting_bytes() const {
  const std::lock_guard lock(mutex_);
  return resting();
}

std::size_t MergeStates::resting() const {
  std::size_t out = 0;
  for (const auto& one : states_) {
    out += one->runs ? 0 : one->held_bytes();
  }
  return out;
}

/// Those that rested longest go first.
void MergeStates::give_back(State& state) {
  const std::lock_guard lock(mutex_);
  state.runs = false;
  state.used = ++clock_;
  while (resting() > resting_bytes_max_) {
    auto oldest = states_.end();
    for (auto at = states_.begin(); at != states_.end(); ++at) {
      const bool older = oldest == states_.end() || (*at)->used < (*oldest)->used;
      oldest = !(*at)->runs && older ? at : oldest;
    }
    states_.erase(oldest);
  }
}

MergedElements::MergedElements(TensorMerge merge, Base base, std::shared_ptr<MergeStates> states,
                               const io::TensorStore* store)
    : merge_(std::move(merge)),
      base_(base),
      states_(std::move(states)),
      store_(store),
      row_bytes_(merge_.granule() * bytes(merge_.dtype())) {}

Status MergedElements::unchanged() const {
  return store_ == nullptr ? Status(Done{}) : store_->unchanged();
}

/// The state holds rows [begin, end) of its slice afterwards. What it made before stays where it
/// overlaps: windows may share a row.
Status MergedElements::advance(MergeStates::State& state, std::int64_t begin,
                               std::int64_t end) const {
  std::vector<std::byte> rows(static_cast<std::size_t>((end - begin) * row_bytes_));
  std::int64_t from = begin;
  if (state.begin <= begin && begin < state.end) {
    from = std::min(end, state.end);
    std::memcpy(rows.data(), state.rows.data() + (begin - state.begin) * row_bytes_,
                static_cast<std::size_t>((from - begin) * row_bytes_));
  }
  state.begin = state.end = 0;
  if (from < end) {
    const std::int64_t first = state.slice * merge_.rows() + from;
    const auto at = static_cast<std::size_t>(first * row_bytes_);
    const auto size = static_cast<std::size_t>((end - from) * row_bytes_);
    std::vector<std::byte> gathered;
    if (base_.maker != nullptr) {
      gathered.resize(size);
      BV_CHECK(base_.maker->make(first * merge_.granule(), (first + end - from) * merge_.granule(),
                                 gathered.data()));
    }
    BV_CHECK(state.merge.apply(
        first * merge_.granule(),
        base_.maker != nullptr ? std::span<const std::byte>(gathered)
                               : base_.bytes.subspan(at, size),
        std::span(rows).subspan(static_cast<std::size_t>((from - begin) * row_bytes_), size)));
  }
  state.begin = begin;
  state.end = end;
  state.rows = std::move(rows);
  return Done{};
}

Status MergedElements::make_rows(std::int64_t slice, std::int64_t begin, std::int64_t end,
                                 std::byte* out) const {
  MergeStates::State& state = states_->take(*this, slice);
  const bool has = state.begin <= begin && end <= state.end;
  Status status = has ? Status(Done{}) : advance(state, begin, end);
  if (status) {
    std::memcpy(out, state.rows.data() + (begin - state.begin) * row_bytes_,
                static_cast<std::size_t>((end - begin) * row_bytes_));
  }
  states_->give_back(state);
  return status;
}

Status MergedElements::make(std::int64_t begin, std::int64_t end, std::byte* out) const {
  const std::int64_t width = granule();
  if (begin % width != 0 || end % width != 0) {  // parts of rows
    const std::int64_t first = begin / width * width;
    const std::int64_t last = (end + width - 1) / width * width;
    const std::int64_t size = row_bytes_ / width;
    std::vector<std::byte> whole(static_cast<std::size_t>((last - first) * size));
    BV_CHECK(make(first, last, whole.data()));
    std::memcpy(out, whole.data() + (begin - first) * size,
                static_cast<std::size_t>((end - begin) * size));
    return Done{};
  }
  for (std::int64_t row = begin / width; row < end / width;) {
    const std::int64_t slice = row / merge_.rows();
    const std::int64_t next = std::min(end / width, (slice + 1) * merge_.rows());
    BV_CHECK(make_rows(slice, row - slice * merge_.rows(), next - slice * merge_.rows(),
                       out + (row - begin / width) * row_bytes_));
    row = next;
  }
  return Done{};
}

}  // namespace bv::lora
