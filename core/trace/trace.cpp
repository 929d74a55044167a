#include "core/trace/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"

namespace bv::trace {
namespace {

constexpr std::size_t kShownNames = 6;
constexpr std::size_t kRowBlocks = 65536;  // looked at for a row

Shape unravel(std::int64_t offset, const Shape& shape) {
  Shape out(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    out[d] = offset % shape[d];
    offset /= shape[d];
  }
  return out;
}

std::int64_t ravel(const Shape& index, const Shape& shape) {
  std::int64_t out = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    out = out * shape[d] + index[d];
  }
  return out;
}

/// Every target offset at which `box` puts source element `offset`: one, or several where the box
/// repeats its source.
std::vector<std::int64_t> targets_of(const layout::Box& box, std::int64_t offset) {
  layout::Box moving = box;
  std::vector<std::int64_t> out = {0};
  moving.axes.clear();
  for (const layout::BoxAxis& axis : box.axes) {
    if (axis.source_stride != 0) {
      moving.axes.push_back(axis);
      continue;
    }
    std::vector<std::int64_t> repeated;
    for (const std::int64_t base : out) {
      for (std::int64_t i = 0; i < axis.extent; ++i) {
        repeated.push_back(base + i * axis.target_stride);
      }
    }
    out = std::move(repeated);
  }
  const std::int64_t first = layout::source_of(layout::inverse(moving, 0), offset);
  if (first == layout::kNowhere) {
    return {};
  }
  for (std::int64_t& one : out) {
    one += first;
  }
  std::sort(out.begin(), out.end());
  return out;
}

struct Found {
  std::uint32_t mapping = 0;
  std::size_t slot = 0;
};

std::optional<Found> find_hf(const model::Model& model, std::string_view name) {
  for (std::uint32_t m = 0; m < model.mappings.size(); ++m) {
    const auto& hf = model.mappings[m].hf;
    const auto at = std::find(hf.begin(), hf.end(), name);
    if (at != hf.end()) {
      return Found{m, static_cast<std::size_t>(at - hf.begin())};
    }
  }
  return std::nullopt;
}

/// checkpoint::Owners of a global Megatron name, or of a local name in one file: owners first,
/// copies after.
std::vector<Place> find_megatron(const plan::Plan& plan, std::string_view name,
                                 std::optional<std::size_t> file) {
  std::vector<Place> out;
  for (const bool copies : {false, true}) {
    for (std::size_t f = 0; f < plan.files().size(); ++f) {
      const auto& targets = plan.files()[f].targets;
      for (std::size_t i = 0; i < targets.size(); ++i) {
        const std::string& has = file ? targets[i].name : targets[i].global_name;
        if (targets[i].copy == copies && has == name && (!file || *file == f)) {
          out.push_back({f, i, {}, {}, {}, {}});
        }
      }
    }
  }
  return out;
}

std::string digits_out(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || out.empty() || out.back() != '#') {
      out += digit ? '#' : c;
    }
  }
  return out;
}

/// Names that differ in numbers only, that end alike, or that are close; at most kShownNames.
std::vector<std::string> similar_names(std::string_view word, const std::set<std::string>& names) {
  std::vector<std::string> out;
  const auto take = [&](const auto& admits) {
    for (const std::string& name : names) {
      if (out.size() < kShownNames && admits(name)) {
        out.push_back(name);
      }
    }
  };
  const std::string pattern = digits_out(word);
  take([&](const std::string& name) { return digits_out(name) == pattern; });
  if (out.empty()) {
    const std::vector<std::string> all(names.begin(), names.end());
    if (const auto near = nearest(word, all)) {
      out.push_back(*near);
    }
  }
  if (out.empty() && !word.empty()) {
    take([&](const std::string& name) { return name.ends_with(word) || word.ends_with(name); });
  }
  if (out.empty()) {
    const std::string_view tail = word.substr(word.find_last_of('.', word.rfind('.') - 1) + 1);
    take([&](const std::string& name) { return !tail.empty() && name.ends_with(tail); });
  }
  if (out.empty() && !word.empty()) {  // a part of a name, or a glob
    const std::string around = "*" + std::string(word) + "*";
    take([&](const std::string& name) { return glob_match(around, name); });
  }
  return out;
}

Error unknown_name(const plan::Plan& plan, const TraceQuery& query, const std::string& word) {
  const model::Model& model = plan.model();
  for (const auto& [list, why] : {std::pair(&model.dropped, "an option leaves it out"),
                                  std::pair(&model.ignored, "the family lets it stay unused")}) {
    if (std::find(list->begin(), list->end(), word) != list->end()) {
      return fail(Code::BadValue, fmt::format("{} is not converted: {}", escaped(word), why))
          .advise("trace a tensor that has a Megatron parameter");
    }
  }
  const bool on_other_side = query.from == Side::Megatron
                                 ? find_hf(model, word).has_value()
                                 : !find_megatron(plan, word, std::nullopt).empty();
  if (query.from && on_other_side) {
    const Side other = *query.from == Side::Hf ? Side::Megatron : Side::Hf;
    return fail(Code::BadValue, fmt::format("there is no tensor {} on the {} side", escaped(word),
                                            name(*query.from)))
        .pair(fmt::format("a tensor of the {} side", name(other)),
              fmt::format("one of the {} side", name(*query.from)))
        .advise(fmt::format("write --from {}, or leave --from out", name(other)));
  }
  std::set<std::string> names;
  if (query.from != Side::Megatron) {
    for (const model::Mapping& mapping : model.mappings) {
      names.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  if (query.from != Side::Hf) {
    for (const plan::ShardFile& file : plan.files()) {
      for (const plan::Target& target : file.targets) {
        names.insert(target.global_name);
      }
    }
  }
  const auto similar = similar_names(word, names);
  const std::string side = query.from ? std::string(name(*query.from)) + " " : "";
  Error error = fail(Code::BadValue, fmt::format("no {}tensor is named {}", side, escaped(word)));
  for (const std::string& one : similar) {
    error.facts.push_back("there is " + one);
  }
  error.help = similar.empty() ? "bridge-verify inspect --model DIR lists the names"
                               : "did you mean " + similar.front() + "?";
  return error;
}

/// The dimensions of a slice that have more than one index, and those that a row is taken of.
std::vector<std::size_t> wide(const Slice& slice) {
  std::vector<std::size_t> out;
  for (std::size_t d = 0; d < slice.size(); ++d) {
    if (slice[d].count > 1) {
      out.push_back(d);
    }
  }
  return out;
}

/// Leaves of a block what lies at `index` of dimension `d` on `side`; false when nothing does.
bool narrow(Block& block, Side side, std::size_t d, std::int64_t index) {
  Slice& own = side == Side::Hf ? block.hf : block.megatron;
  Slice& other = side == Side::Hf ? block.megatron : block.hf;
  Range& range = own[d];
  const std::int64_t step = std::max<std::int64_t>(range.step, 1);
  const std::int64_t at = (index - range.begin) / step;
  if (index < range.begin || (index - range.begin) % step != 0 || at >= range.count) {
    return false;
  }
  if (range.count > 1 && !other.empty()) {
    std::vector<std::size_t> here = wide(own);
    std::vector<std::size_t> there = wide(other);
    if (block.transposed) {
      std::reverse(there.begin(), there.end());
    }
    const auto place = std::find(here.begin(), here.end(), d) - here.begin();
    Range& partner = other[there[static_cast<std::size_t>(place)]];
    partner = {partner.begin + at * partner.step, 1, 1};
  }
  range = {index, 1, 1};
  return true;
}

/// A block of more than two dimensions in another order has no single partner for one of them.
bool can_be_narrowed(const Block& block) {
  return block.hf.empty() || (wide(block.hf).size() == wide(block.megatron).size() &&
                              (!block.transposed || wide(block.hf).size() <= 2));
}

/// The blocks of a shard behind the first numbers of an index.
Result<Blocks> row_of(const layout::Shard& shard, const std::vector<Shape>& hf_shapes, Side side,
                      const Shape& index, std::size_t blocks_max) {
  Blocks all = blocks_of(shard, hf_shapes, index.empty() ? blocks_max : kRowBlocks);
  Blocks out;
  out.left_out = all.left_out;
  for (Block& block : all.list) {
    if (side == Side::Hf && block.hf.empty()) {
      continue;
    }
    bool inside = true;
    for (std::size_t d = 0; inside && d < index.size(); ++d) {
      if (!can_be_narrowed(block)) {
        return fail(Code::BadValue, "a row of this tensor is scattered over other dimensions")
            .pair(shape_text(index), "an index with one number a dimension")
            .advise("give the whole index of an element");
      }
      inside = narrow(block, side, d, index[d]);
    }
    if (inside && out.list.size() < blocks_max) {
      out.list.push_back(std::move(block));
    } else if (inside) {
      ++out.left_out;
    }
  }
  return out;
}

Status check_index(const std::string& name, const Shape& index, const Shape& shape) {
  bool inside = index.size() <= shape.size();
  for (std::size_t d = 0; inside && d < index.size(); ++d) {
    inside = index[d] >= 0 && index[d] < shape[d];
  }
  if (inside) {
    return Done{};
  }
  const bool long_index = index.size() > shape.size();
  return fail(Code::BadValue, long_index
                                  ? fmt::format("index {} has {}, {} has {}", shape_text(index),
                                                counted(index.size(), "number"), name,
                                                counted(shape.size(), "dimension"))
                                  : fmt::format("index {} is outside {}", shape_text(index), name))
      .pair(shape_text(index), "an index into shape " + shape_text(shape))
      .advise("count from 0, one number for each dimension; the first alone means the whole row");
}

/// The file that "pp0_tp1_ep0_etp0" or its file name means.
Result<std::size_t> find_file(const plan::Plan& plan, std::string_view shard) {
  const std::string file(
      shard.ends_with(".safetensors")
          ? shard.substr(0, shard.size() - std::string_view(".safetensors").size())
          : shard);
  std::vector<std::string> names;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    const std::string has = parallel::shard_name(plan.files()[f].key, plan.layout());
    if (has == file) {
      return f;
    }
    names.push_back(has);
  }
  const std::size_t count = names.size();
  names.resize(std::min(count, kShownNames));
  return fail(Code::BadValue, fmt::format("layout {} has no shard {}",
                                          parallel::layout_id(plan.layout()), escaped(shard)))
      .pair(escaped(shard), fmt::format("one of {} shards: {}{}", count, join(names, " "),
                                        count > names.size() ? " ..." : ""))
      .advise("bridge-verify layout lists the shards; choose the layout with --tp, --pp, --ep");
}

Result<Trace> trace_hf(const plan::Plan& plan, const TraceQuery& query, const Found& found) {
  Trace out;
  out.from = Side::Hf;
  out.name = query.name;
  out.mapping = found.mapping;
  const model::Mapping& mapping = plan.model().mappings[found.mapping];
  out.shape = plan.hf_shapes(mapping)[found.slot];
  if (query.index) {
    BV_CHECK(check_index(query.name, *query.index, out.shape));
    out.element = query.index->size() == out.shape.size();
  }
  const Shape& shard_shape = plan.bound(mapping).target_shapes()[0];
  for (const plan::Plan::Owner& owner : plan.owners()[found.mapping]) {
    layout::Shard shard = plan.shard(plan.files()[owner.file].targets[owner.target]);
    std::erase_if(shard.boxes, [&](const layout::Box& box) {
      return box.source != static_cast<int>(found.slot);
    });
    if (shard.boxes.empty()) {
      continue;
    }
    Place place{owner.file, owner.target, query.name, {}, {}, {}};
    if (!out.element) {
      BV_TRY(blocks, row_of(shard, plan.hf_shapes(mapping), Side::Hf, query.index.value_or(Shape{}),
                            query.blocks_max));
      place.blocks = std::move(blocks);
      if (!place.blocks.list.empty() || place.blocks.left_out > 0) {
        out.places.push_back(std::move(place));
      }
      continue;
    }
    place.hf_index = *query.index;
    const std::int64_t offset = ravel(*query.index, out.shape);
    for (const layout::Box& box : shard.boxes) {
      for (const std::int64_t at : targets_of(box, offset)) {
        place.megatron_index = unravel(at, shard_shape);
        out.places.push_back(place);
      }
    }
  }
  return out;
}

Result<Trace> trace_megatron(const plan::Plan& plan, const TraceQuery& query,
                             const std::string& tensor, std::vector<Place> places) {
  Trace out;
  out.from = Side::Megatron;
  out.name = tensor;
  out.mapping = plan.files()[places.front().file].targets[places.front().target].mapping;
  const model::Mapping& mapping = plan.model().mappings[out.mapping];
  out.shape = plan.bound(mapping).target_shapes()[0];
  if (query.index) {
    BV_CHECK(check_index(tensor, *query.index, out.shape));
    out.element = query.index->size() == out.shape.size();
  }
  for (Place& place : places) {
    const layout::Shard shard = plan.shard(plan.files()[place.file].targets[place.target]);
    if (!out.element) {
      BV_TRY(blocks, row_of(shard, plan.hf_shapes(mapping), Side::Megatron,
                            query.index.value_or(Shape{}), query.blocks_max));
      place.blocks = std::move(blocks);
      continue;
    }
    place.megatron_index = *query.index;
    const std::int64_t offset = ravel(*query.index, out.shape);
    for (const layout::Box& box : shard.boxes) {
      const std::int64_t at = layout::source_of(box, offset);
      if (at != layout::kNowhere && box.source >= 0) {
        const auto slot = static_cast<std::size_t>(box.source);
        place.hf = mapping.hf[slot];
        place.hf_index = unravel(at, plan.hf_shapes(mapping)[slot]);
      }
    }
  }
  out.places = std::move(places);
  return out;
}

}  // namespace

std::string_view name(Side side) {
  return side == Side::Hf ? "hf" : "megatron";
}

Result<Shape> parse_index(std::string_view text) {
  const auto wrong = [&] {
    return fail(Code::BadValue, fmt::format("\"{}\" is not an index", escaped(text)))
        .pair(escaped(text), "whole numbers from 0, joined by commas")
        .advise("write 3,5 or [3,5]");
  };
  std::string_view left = text;
  if (left.starts_with('[') != left.ends_with(']')) {
    return wrong();
  }
  if (left.starts_with('[')) {
    left = left.substr(1, left.size() - 2);
  }
  Shape out;
  while (true) {
    left.remove_prefix(std::min(left.find_first_not_of(' '), left.size()));
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(left.data(), left.data() + left.size(), number);
    if (error != std::errc() || number < 0) {
      return wrong();
    }
    out.push_back(number);
    left.remove_prefix(static_cast<std::size_t>(end - left.data()));
    left.remove_prefix(std::min(left.find_first_not_of(' '), left.size()));
    if (left.empty()) {
      return out;
    }
    if (left.front() != ',') {
      return wrong();
    }
    left.remove_prefix(1);
  }
}

Result<Trace> trace(const plan::Plan& plan, const TraceQuery& query) {
  const std::size_t colon = query.name.find(':');
  const auto hf = query.from == Side::Megatron ? std::nullopt : find_hf(plan.model(), query.name);
  if (!hf && colon != std::string::npos && query.from != Side::Hf) {
    BV_TRY(file, find_file(plan, std::string_view(query.name).substr(0, colon)));
    const std::string local = query.name.substr(colon + 1);
    auto places = find_megatron(plan, local, file);
    if (places.empty()) {
      std::set<std::string> names;
      for (const plan::Target& target : plan.files()[file].targets) {
        names.insert(target.name);
      }
      const auto similar = similar_names(local, names);
      return fail(Code::BadValue, fmt::format("shard {} has no tensor {}",
                                              query.name.substr(0, colon), escaped(local)))
          .fact(fmt::format("it has {}", counted(names.size(), "tensor")))
          .advise(similar.empty() ? "bridge-verify layout shows which layers a stage holds"
                                  : "did you mean " + similar.front() + "?");
    }
    return trace_megatron(plan, query, local, std::move(places));
  }
  std::vector<Place> places;
  if (query.from != Side::Hf) {
    places = find_megatron(plan, query.name, std::nullopt);
  }
  if (hf && !places.empty()) {
    return fail(Code::Conflict, fmt::format("both sides have a tensor {}", escaped(query.name)))
        .advise("say which with --from hf or --from megatron");
  }
  if (hf) {
    return trace_hf(plan, query, *hf);
  }
  if (places.empty()) {
    return unknown_name(plan, query, query.name);
  }
  return trace_megatron(plan, query, query.name, std::move(places));
}

}  // namespace bv::trace
