#include "properties/attacks/lines/plain.hpp"

#include <fmt/format.h>

#include <map>

#include "core/base/arith.hpp"

namespace bv::lines {
namespace {

/// An element's name: the part it belongs to and its coordinate on each axis. Kept as a sum of
/// hashes, so that the order of the axes does not matter.
struct Label {
  std::string part;
  std::uint64_t coordinates = 0;
  bool operator<(const Label& other) const {
    return std::tie(part, coordinates) < std::tie(other.part, other.coordinates);
  }
};

std::uint64_t coordinate(std::string_view axis, std::int64_t at) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : axis) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  }
  hash += static_cast<std::uint64_t>(at) * 0x9E3779B97F4A7C15ULL;
  hash = (hash ^ (hash >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  return hash ^ (hash >> 27U);
}

class Reader {
 public:
  explicit Reader(const layout::Binding& binding) : binding_(binding) {}

  /// Every element of a tensor, row-major.
  std::vector<Label> elements(const layout::TensorExpr& tensor) const {
    std::vector<Label> out(1);
    for (const layout::Dim& dim : tensor.dims) {
      if (!dim.rest) {
        out = crossed(out, elements(dim.product));
        continue;
      }
      for (std::size_t i = 0; i < binding_.rest.size(); ++i) {
        out = crossed(out, along(fmt::format("...{}", i), binding_.rest[i]));
      }
    }
    for (Label& label : out) {
      label.part = label.part.empty() ? tensor.name : label.part;
    }
    return out;
  }

 private:
  std::vector<Label> elements(const layout::Product& product) const {
    std::vector<Label> out(1);
    for (const layout::Factor& factor : product) {
      switch (factor.kind) {
        case layout::Factor::Kind::One:
          break;
        case layout::Factor::Kind::Axis:
          out = crossed(
              out, factor.replica ? copies(factor.axis) : along(factor.axis, size(factor.axis)));
          break;
        case layout::Factor::Kind::Sum:
          out = crossed(out, one_after_the_other(factor.choices));
          break;
      }
    }
    return out;
  }

  std::vector<Label> one_after_the_other(const std::vector<layout::Choice>& choices) const {
    std::vector<Label> out;
    for (const layout::Choice& choice : choices) {
      for (Label& label : elements(choice.product)) {
        label.part = label.part.empty() ? choice.name : label.part;
        out.push_back(std::move(label));
      }
    }
    return out;
  }

  static std::vector<Label> crossed(const std::vector<Label>& outer,
                                    const std::vector<Label>& inner) {
    std::vector<Label> out;
    for (const Label& a : outer) {
      for (const Label& b : inner) {
        const bool both = !a.part.empty() && !b.part.empty();
        out.push_back({a.part + (both ? "." : "") + b.part, a.coordinates + b.coordinates});
      }
    }
    return out;
  }

  std::vector<Label> along(const std::string& axis, std::int64_t extent) const {
    std::vector<Label> out;
    for (std::int64_t i = 0; i < extent; ++i) {
      out.push_back({"", coordinate(axis, i)});
    }
    return out;
  }

  /// Every position of a replicated axis holds the same element.
  std::vector<Label> copies(const std::string& axis) const {
    return std::vector<Label>(static_cast<std::size_t>(size(axis)));
  }

  std::int64_t size(const std::string& axis) const {
    const auto found = binding_.axes.find(axis);
    return found == binding_.axes.end() ? 1 : found->second;
  }

  const layout::Binding& binding_;
};

}  // namespace

Result<std::vector<From>> plain_shard(const layout::Rule& rule, const layout::Binding& binding,
                                      const GridPlace& place) {
  const Reader reader(binding);
  std::map<Label, From> named;
  for (std::size_t i = 0; i < rule.sources.size(); ++i) {
    const std::vector<Label> labels = reader.elements(rule.sources[i]);
    for (std::size_t at = 0; at < labels.size(); ++at) {
      const From from{static_cast<int>(i), static_cast<std::int64_t>(at)};
      if (!named.emplace(labels[at], from).second) {
        return fail(Code::BadValue, "two elements of " + rule.sources[i].name + " have one name");
      }
    }
  }
  const layout::TensorExpr& target = rule.targets[place.target];
  std::uint64_t here = 0;
  for (const layout::GridAxis& axis : target.grid) {
    const auto at = place.grid.find(axis.axis);
    here += axis.replica ? 0 : coordinate(axis.axis, at == place.grid.end() ? 0 : at->second);
  }
  std::vector<Label> labels = reader.elements(target);
  if (rule.cut) {
    const auto ways = static_cast<std::size_t>(binding.axes.find(rule.cut->axis)->second);
    const auto at = place.grid.find(rule.cut->axis);
    const std::size_t run = labels.size() / ways;
    const auto begin = labels.begin() + static_cast<std::ptrdiff_t>(run) * at->second;
    labels = std::vector<Label>(begin, begin + static_cast<std::ptrdiff_t>(run));
  }
  std::vector<From> out;
  for (Label& label : labels) {
    label.coordinates += here;
    const auto from = named.find(label);
    if (from == named.end() && label.part != "pad") {
      return fail(Code::BadValue,
                  fmt::format("part {} of {} has no source", label.part, target.name));
    }
    out.push_back(from == named.end() ? From{} : from->second);
  }
  return out;
}

std::vector<From> shard_of_boxes(const layout::Shard& shard) {
  constexpr std::int64_t kUnwritten = -2;
  std::vector<From> out(static_cast<std::size_t>(element_count(shard.shape).value()),
                        From{0, kUnwritten});
  for (const layout::Box& box : shard.boxes) {
    for_each_element(box, [&](std::int64_t source, std::int64_t target) {
      if (target >= 0 && target < static_cast<std::int64_t>(out.size())) {
        out[static_cast<std::size_t>(target)] = box.source < 0 ? From{} : From{box.source, source};
      }
    });
  }
  return out;
}

}  // namespace bv::lines
