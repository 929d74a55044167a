#include "core/comm/group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/kinds/values.hpp"

namespace bv::comm {
namespace {

/// "BF16 8 3": the type and the extents of a tensor, before its bytes.
std::string spec_text(const TypedBytes& tensor) {
  std::string out(bv::name(tensor.dtype));
  for (const std::int64_t extent : tensor.shape) {
    out += fmt::format(" {}", extent);
  }
  return out;
}

std::optional<TypedBytes> spec_from(std::string_view text) {
  const std::size_t blank = std::min(text.find(' '), text.size());
  const auto dtype = dtype_from_name(text.substr(0, blank));
  if (!dtype) {
    return std::nullopt;
  }
  TypedBytes out{*dtype, {}, {}};
  text.remove_prefix(blank);
  while (!text.empty()) {
    text.remove_prefix(1);
    const std::size_t end = std::min(text.find(' '), text.size());
    std::int64_t extent = 0;
    const auto read = std::from_chars(text.data(), text.data() + end, extent);
    if (read.ec != std::errc() || read.ptr != text.data() + end || extent < 0) {
      return std::nullopt;
    }
    out.shape.push_back(extent);
    text.remove_prefix(end);
  }
  return out;
}

/// Are there as many bytes as type and shape say?
bool is_whole(const TypedBytes& tensor) {
  const auto elements = element_count(tensor.shape);
  return elements && bits(tensor.dtype) % 8 == 0 &&
         checked_mul(*elements, bytes(tensor.dtype)) == std::ssize(tensor.bytes);
}

Result<TypedBytes> cast_to(TypedBytes tensor, DType as, std::string_view what) {
  if (!is_whole(tensor)) {
    return fail(Code::BadValue,
                fmt::format("{} came with {}", what, counted(tensor.bytes.size(), "byte")))
        .pair(counted(tensor.bytes.size(), "byte"), spec_text(tensor))
        .advise("start every process with the same command line and the same files");
  }
  if (tensor.dtype == as) {
    return tensor;
  }
  if (!kinds::is_computable(tensor.dtype) || !kinds::is_computable(as)) {
    return fail(Code::BadValue, fmt::format("{} cannot be cast from {} to {}", what,
                                            bv::name(tensor.dtype), bv::name(as)))
        .pair(std::string(bv::name(tensor.dtype)), std::string(bv::name(as)))
        .advise("leave --dtype out");
  }
  TypedBytes out{as, tensor.shape, {}};
  const std::int64_t count = std::ssize(tensor.bytes) / bytes(tensor.dtype);
  out.bytes.resize(static_cast<std::size_t>(count * bytes(as)));
  kinds::cast(tensor.bytes.data(), tensor.dtype, out.bytes.data(), as, count);
  return out;
}

/// What another rank says that it sends.
Result<std::size_t> sized(const std::string& text, const std::string& who) {
  std::size_t out = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) {
    return fail(Code::RankDiverged, who + " does not say how much it sends")
        .pair(text, "a number of bytes")
        .advise("start every process with the same command line and the same files");
  }
  return out;
}

}  // namespace

Group::Group(Link& link, std::vector<int> ranks, std::string name)
    : link_(link), ranks_(std::move(ranks)), name_(std::move(name)), maker_(link.carriers()) {
  const auto here = std::find(ranks_.begin(), ranks_.end(), link.rank());
  BV_ASSERT(here != ranks_.end());
  place_ = static_cast<int>(here - ranks_.begin());
}

std::string Group::label_of(std::string_view operation, std::string_view what) const {
  return fmt::format("{} over {} of {}", operation, name_, what);
}

Status Group::wait_for_all(int root, const std::string& label) {
  const std::string done = label + ": done";
  if (place_ != root) {
    return link_.send(rank_at(root), done, {});
  }
  for (int place = 0; place < size(); ++place) {
    if (place != root) {
      BV_CHECK(link_.receive(rank_at(place), done));
    }
  }
  return Done{};
}

Result<Carrier*> Group::carrier() {
  if (maker_ == nullptr || carrier_ != nullptr) {
    return carrier_.get();
  }
  const std::string label = label_of("making carriers", "bytes");
  CarrierMaker::Identity identity;
  if (place_ == 0) {
    BV_TRY(made, maker_->identity());
    identity = std::move(made);
    for (int place = 1; place < size(); ++place) {
      BV_CHECK(link_.send(rank_at(place), label, identity));
    }
  } else {
    BV_TRY(told, link_.receive(rank_at(0), label));
    identity = std::move(told);
  }
  BV_CHECK(wait_for_all(0, label));  // all are here before the library waits for them
  link_.work_untold(true);
  auto made =
      maker_->make(identity, place_, size(), [&link = link_] { return link.all_are_here(); });
  link_.work_untold(false);
  if (!made) {
    return link_.blame(ranks_, std::move(made).error());
  }
  carrier_ = std::move(*made);
  return carrier_.get();
}

/// A library knows nobody: the link says who it was.
Status Group::carried(Status by_carrier) {
  return by_carrier ? by_carrier : Status(link_.blame(ranks_, by_carrier.error()));
}

Result<std::size_t> Group::size_of_root(int root, std::size_t bytes, const std::string& label) {
  const std::string said = label + ": size";
  if (place_ == root) {
    for (int place = 0; place < size(); ++place) {
      if (place != root) {
        BV_CHECK(link_.send(rank_at(place), said, bytes_of(std::to_string(bytes))));
      }
    }
    return bytes;
  }
  BV_TRY(told, link_.receive(rank_at(root), said));
  return sized(text_of(told), link_.name_of(rank_at(root)));
}

Result<Bytes> Group::scatter_by(Carrier& by, int root, std::span<const Bytes> parts,
                                const std::string& label) {
  const std::string said = label + ": size";
  Bytes mine;
  if (place_ == root) {
    BV_ASSERT(parts.size() == ranks_.size());
    for (int place = 0; place < size(); ++place) {
      const std::size_t count = parts[static_cast<std::size_t>(place)].size();
      if (place != root) {
        BV_CHECK(link_.send(rank_at(place), said, bytes_of(std::to_string(count))));
      }
    }
    mine.resize(parts[static_cast<std::size_t>(root)].size());
  } else {
    BV_TRY(told, link_.receive(rank_at(root), said));
    BV_TRY(count, sized(text_of(told), link_.name_of(rank_at(root))));
    mine.resize(count);
  }
  BV_CHECK(wait_for_all(root, label + ": ready"));
  BV_CHECK(carried(by.scatter(root, parts, mine)));
  BV_CHECK(wait_for_all(root, label));
  return mine;
}

/// Every member gives as much as the one that gives most; what was padded is cut off again.
Result<std::vector<Bytes>> Group::gather_by(Carrier& by, std::span<const std::byte> mine,
                                            const std::string& label) {
  const std::string said = label + ": size";
  for (int place = 0; place < size(); ++place) {
    if (place != place_) {
      BV_CHECK(link_.send(rank_at(place), said, bytes_of(std::to_string(mine.size()))));
    }
  }
  std::vector<std::size_t> sizes;
  for (int place = 0; place < size(); ++place) {
    if (place == place_) {
      sizes.push_back(mine.size());
      continue;
    }
    BV_TRY(told, link_.receive(rank_at(place), said));
    BV_TRY(count, sized(text_of(told), link_.name_of(rank_at(place))));
    sizes.push_back(count);
  }
  const std::size_t most = *std::max_element(sizes.begin(), sizes.end());
  Bytes padded(mine.begin(), mine.end());
  padded.resize(most);
  Bytes all(most * sizes.size());
  if (most > 0) {
    BV_CHECK(carried(by.all_gather(padded, all)));
  }
  std::vector<Bytes> out;
  for (std::size_t place = 0; place < sizes.size(); ++place) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(place * most);
    out.emplace_back(first, first + static_cast<std::ptrdiff_t>(sizes[place]));
  }
  return out;
}

Result<Bytes> Group::scatter(int root, std::span<const Bytes> parts, std::string_view what) {
  const std::string label = label_of("scatter", what);
  BV_TRY(by, carrier());
  if (by != nullptr) {
    return scatter_by(*by, root, parts, label);
  }
  if (place_ != root) {
    BV_TRY(mine, link_.receive(rank_at(root), label));
    BV_CHECK(wait_for_all(root, label));
    return std::move(mine);
  }
  BV_ASSERT(parts.size() == ranks_.size());
  for (int place = 0; place < size(); ++place) {
    if (place != root) {
      BV_CHECK(link_.send(rank_at(place), label, parts[static_cast<std::size_t>(place)]));
    }
  }
  BV_CHECK(wait_for_all(root, label));
  return parts[static_cast<std::size_t>(root)];
}

Result<std::vector<Bytes>> Group::all_gather(std::span<const std::byte> mine,
                                             std::string_view what) {
  const std::string label = label_of("all-gather", what);
  BV_TRY(by, carrier());
  if (by != nullptr) {
    return gather_by(*by, mine, label);
  }
  for (int place = 0; place < size(); ++place) {
    if (place != place_) {
      BV_CHECK(link_.send(rank_at(place), label, mine));
    }
  }
  std::vector<Bytes> out;
  for (int place = 0; place < size(); ++place) {
    if (place == place_) {
      out.emplace_back(mine.begin(), mine.end());
      continue;
    }
    BV_TRY(other, link_.receive(rank_at(place), label));
    out.push_back(std::move(other));
  }
  return out;
}

Result<std::vector<Bytes>> Group::gather(int root, std::span<const std::byte> mine,
                                         std::string_view what) {
  const std::string label = label_of("gather", what);
  std::vector<Bytes> out;
  if (place_ != root) {
    BV_CHECK(link_.send(rank_at(root), label, mine));
    return out;
  }
  for (int place = 0; place < size(); ++place) {
    if (place == root) {
      out.emplace_back(mine.begin(), mine.end());
      continue;
    }
    BV_TRY(other, link_.receive(rank_at(place), label));
    out.push_back(std::move(other));
  }
  return out;
}

Result<Bytes> Group::broadcast(int root, std::span<const std::byte> bytes, std::string_view what) {
  const std::string label = label_of("broadcast", what);
  BV_TRY(by, carrier());
  if (by != nullptr) {
    BV_TRY(count, size_of_root(root, bytes.size(), label));
    BV_CHECK(
        wait_for_all(root, label + ": ready"));  // a library would wait for one that is elsewhere
    Bytes out(count);
    if (place_ == root) {
      std::copy(bytes.begin(), bytes.end(), out.begin());
    }
    if (count > 0) {
      BV_CHECK(carried(by->broadcast(root, out)));
    }
    BV_CHECK(wait_for_all(root, label));
    return out;
  }
  if (place_ != root) {
    BV_TRY(got, link_.receive(rank_at(root), label));
    BV_CHECK(wait_for_all(root, label));
    return std::move(got);
  }
  for (int place = 0; place < size(); ++place) {
    if (place != root) {
      BV_CHECK(link_.send(rank_at(place), label, bytes));
    }
  }
  BV_CHECK(wait_for_all(root, label));
  return Bytes(bytes.begin(), bytes.end());
}

Result<TypedBytes> Group::broadcast_as(int root, const TypedBytes& tensor, DType as,
                                       std::string_view what) {
  const std::string spec = place_ == root ? spec_text(tensor) : "";
  BV_TRY(told, broadcast(root, bytes_of(spec), fmt::format("the type of {}", what)));
  auto out = spec_from(text_of(told));
  if (!out) {
    return fail(Code::RankDiverged, fmt::format("{} does not say which type and shape {} has",
                                                link_.name_of(rank_at(root)), what))
        .pair(text_of(told), "a type and extents")
        .advise("start every process with the same command line and the same files");
  }
  BV_TRY(bytes, broadcast(root, tensor.bytes, what));
  out->bytes = std::move(bytes);
  return cast_to(std::move(*out), as, what);
}

Status Group::barrier(std::string_view what) {
  BV_CHECK(all_gather({}, what));
  return Done{};
}

Group whole_world(Link& link) {
  std::vector<int> ranks(static_cast<std::size_t>(link.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return {link, std::move(ranks), "the world"};
}

}  // namespace bv::comm
