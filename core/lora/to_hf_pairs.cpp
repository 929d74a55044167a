// Pairs of a layer of Megatron -> pairs of HF tensors: which, from which shards.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/lora/hf_planner.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kRouter = ".router";

/// Shards of one module as numbered sources of an HF tensor.
class ShardSources {
 public:
  std::int32_t number(const checkpoint::SourceTensor& tensor, Gathered& out) {
    for (std::size_t i = 0; i < out.sources.size(); ++i) {
      if (out.sources[i].spec == tensor.spec) {
        return static_cast<std::int32_t>(i);
      }
    }
    out.sources.push_back(tensor);
    return static_cast<std::int32_t>(out.sources.size() - 1);
  }
};

void add_inverse(const std::vector<layout::Box>& boxes, std::int32_t source, Gathered& out) {
  for (const layout::Box& box : boxes) {
    if (box.source >= 0) {
      out.boxes.push_back(layout::inverse(box, source));
    }
  }
}

/// One box for each row of `width` elements of B on a rank.
std::vector<layout::Box> by_rows(const std::vector<layout::Box>& boxes, std::int64_t width) {
  std::vector<layout::Box> out;
  for (const layout::Box& box : boxes) {
    for (std::int64_t i = 0; i < box.elements(); i += width) {
      const layout::BoxPlace at = layout::place_of(box, i);
      layout::Box row;
      row.source = box.source;
      row.source_offset = at.source;
      row.target_offset = at.target;
      row.axes = {{width, box.source < 0 ? 0 : 1, 1}};
      out.push_back(row);
    }
  }
  return out;
}

/// Leaves the rows out whose copies were seen before.
void keep_first_copies(std::vector<layout::Box>& boxes, std::int64_t width,
                       std::set<std::int64_t>& seen) {
  std::erase_if(boxes, [](const layout::Box& box) { return box.source < 0; });
  std::vector<layout::Box> out;
  for (const layout::Box& row : by_rows(boxes, width)) {
    if (seen.insert(row.source_offset).second) {
      out.push_back(row);
    }
  }
  boxes = std::move(out);
}

/// Rows of a layer that HF has once, or not at all, on the ranks seen so far.
class RepeatedRows {
 public:
  explicit RepeatedRows(std::string layer) : layer_(std::move(layer)) {}

  Status add(const std::vector<layout::Box>& boxes, std::int64_t width, DType dtype,
             std::span<const std::byte> all) {
    const auto size = static_cast<std::size_t>(width) * static_cast<std::size_t>(bytes(dtype));
    for (const layout::Box& row : by_rows(boxes, width)) {
      const auto at =
          static_cast<std::size_t>(row.target_offset) * static_cast<std::size_t>(bytes(dtype));
      const auto found = all.subspan(at, size);
      const bool zero = std::all_of(found.begin(), found.end(),
                                    [](std::byte one) { return one == std::byte{0}; });
      if (row.source < 0 && !zero) {
        return no_form("rows that no HF tensor has", "a row that is not zero", "zeros there");
      }
      const auto [first, added] = first_.try_emplace({row.source, row.source_offset}, found);
      if (row.source >= 0 && !added && !std::ranges::equal(first->second, found)) {
        return no_form("two rows for one of HF", "two rows that differ",
                       "equal rows, as the layer's weight has them");
      }
    }
    return Done{};
  }

 private:
  [[nodiscard]] Error no_form(const char* what, const char* found, const char* wanted) const {
    return fail(Code::AdapterNoForm, fmt::format("the adapter of {} changes {}", layer_, what))
        .pair(found, wanted)
        .advise("keep it for Megatron, or train that layer so that these rows stay as they were");
  }

  std::string layer_;
  std::map<std::pair<std::int32_t, std::int64_t>, std::span<const std::byte>> first_;
};

}  // namespace

Status HfPlanner::check_repeats(const AdapterModule& module, const Site& site) const {
  const AdapterCut cut = cut_of(module, site);
  LayerFactors factors;
  factors.rank = module.rank;
  LayerFactors vectors;
  vectors.rank = 1;
  for (std::size_t i = 0; i < site.rows->source_shapes().size(); ++i) {
    Block block = block_of(site, {static_cast<std::int64_t>(i), module.rank, 0});
    block.b = {static_cast<std::int32_t>(i), 0, module.rank, 1};
    factors.blocks.push_back(block);
    block.rank = 1;
    block.b = {static_cast<std::int32_t>(i), 0, 1, 0};
    vectors.blocks.push_back(block);
  }
  RepeatedRows rows(name_of(module));
  RepeatedRows magnitudes(name_of(module));
  for (const ModuleShard& shard : module.shards) {
    const SiteShard& at = sites_.shards()[shard.shard];
    const io::Checkpoint& file = adapter_.files[at.file];
    std::vector<layout::Box> boxes;
    add_b_boxes(site, cut, at.t, factors, 0, boxes);
    BV_CHECK(rows.add(boxes, module.rank, shard.b->spec.dtype, file.bytes(*shard.b)));
    if (shard.magnitude != nullptr) {
      boxes.clear();
      add_row_boxes(site, cut, at.t, vectors, 0, boxes);
      BV_CHECK(magnitudes.add(boxes, 1, shard.magnitude->spec.dtype, file.bytes(*shard.magnitude)));
    }
  }
  return Done{};
}

Status HfPlanner::add_layer(std::span<const AdapterModule> modules) {
  const Site& site = class_site(modules.front());
  if (site.repeats) {
    BV_CHECK(check_repeats(modules.front(), site));
  }
  std::map<const AdapterModule*, std::vector<RecordBlock>> blocks;
  for (const AdapterModule& module : modules) {
    blocks[&module] = blocks_of(module, site);
  }
  if (site.expert) {
    add_experts(modules.front(), site, blocks[&modules.front()]);
    return Done{};
  }
  for (const ClassLayer& layer : class_layers(site)) {
    std::vector<const AdapterModule*> here;
    for (const AdapterModule& module : modules) {
      const bool about =
          module.key.empty() || std::find(layer.sources.begin(), layer.sources.end(),
                                          site.keys.at(module.key).hf) != layer.sources.end();
      if (about) {
        here.push_back(&module);
      }
    }
    const std::size_t hf = layer.sources.front();
    const auto has_all = [&](const AdapterModule& module) {
      return module.key.empty() || site.keys.at(module.key).rows == site.rows_of(hf);
    };
    if (here.empty()) {
      continue;
    }
    if (layer.sources.size() > 1 || !has_all(*here.front())) {
      BV_CHECK(add_joined(here, site, layer));
      continue;
    }
    for (const RecordBlock& block : blocks[here.front()]) {
      if (block.hf == static_cast<std::int64_t>(hf)) {
        add_plain(*here.front(), site, block, layer.weight, -1);
      }
    }
  }
  return Done{};
}

void HfPlanner::add_experts(const AdapterModule& module, const Site& site,
                            const std::vector<RecordBlock>& blocks) {
  const std::int64_t experts = site.experts;
  const bool packed = is_packed(site, class_mapping(site, experts > 0 ? 0 : -1));
  for (std::int64_t e = experts > 0 ? 0 : -1; e < std::max<std::int64_t>(experts, 0); ++e) {
    const model::Mapping& mapping = class_mapping(site, e);
    for (const RecordBlock& block : blocks) {
      const std::string& name = mapping.hf[static_cast<std::size_t>(block.hf)];
      packed ? add_packed(module, site, block, name, e) : add_plain(module, site, block, name, e);
    }
  }
}

AdapterCut HfPlanner::cut_of(const AdapterModule& module, const Site& site) const {
  AdapterCut cut = adapter_cut(site, sites_.ways(site));
  cut.whole = module.whole;
  if (!module.key.empty()) {
    cut.key = site.keys.at(module.key);
    cut.b_as_base = false;
  }
  return cut;
}

std::vector<RecordBlock> HfPlanner::blocks_of(const AdapterModule& module, const Site& site) {
  const std::string name = name_of(module);
  const LayerRecord* record = record_of(name);
  verbatim_ = verbatim_ && record != nullptr;
  std::vector<RecordBlock> all;
  for (std::size_t i = 0; i < site.rows->source_shapes().size(); ++i) {
    if (module.key.empty() || site.keys.at(module.key).hf == i) {
      all.push_back({static_cast<std::int64_t>(i), module.rank, 0});
    }
  }
  if (record == nullptr || record->blocks.empty()) {
    return all;
  }
  std::vector<RecordBlock> recorded = record->blocks;
  if (site.expert) {
    recorded = all;
    for (RecordBlock& block : recorded) {
      block.rank = std::min(record->blocks.front().rank, module.rank);
    }
  }
  const bool right = std::all_of(recorded.begin(), recorded.end(), [&](const RecordBlock& block) {
    return block.hf < std::ssize(site.rows->source_shapes()) &&
           block.at + block.rank <= module.rank;
  });
  if (right && zeros_are_zero(module, site, recorded)) {
    for (RecordBlock& block : recorded) {
      if (!takes(module, -block.fold)) {
        block.fold = 0;  // trained since: the pair keeps the scale of its layer
        verbatim_ = false;
      }
    }
    return recorded;
  }
  verbatim_ = false;
  out_.notes.push_back(
      fmt::format("{} was trained since it was put together: its pairs come back as one of rank {}",
                  name, module.rank));
  return all;
}

const LayerRecord* HfPlanner::record_of(const std::string& name) const {
  if (!adapter_.record) {
    return nullptr;
  }
  const auto found = adapter_.record->layers.find(name);
  return found == adapter_.record->layers.end() ? nullptr : &found->second;
}

bool HfPlanner::zeros_are_zero(const AdapterModule& module, const Site& site,
                               const std::vector<RecordBlock>& blocks) const {
  const AdapterCut cut = cut_of(module, site);
  LayerFactors factors;
  factors.rank = module.rank;
  std::set<std::int64_t> placed;
  for (const RecordBlock& one : blocks) {
    Block block = block_of(site, one);
    block.owns_a = placed.insert(one.at).second;
    factors.blocks.push_back(block);
  }
  const FactorShapes shapes = local_shapes(site, cut, module.rank).value();
  const auto count = [](ExpertForm form, const SiteShard& at) {
    return form == ExpertForm::Each ? at.experts : 1;
  };
  for (const ModuleShard& shard : module.shards) {
    const SiteShard& at = sites_.shards()[shard.shard];
    std::vector<layout::Box> a;
    std::vector<layout::Box> b;
    for (std::int64_t j = 0; j < count(module.a_form, at); ++j) {
      add_a_boxes(site, cut, at.t, factors, j * element_count(shapes.a).value(), a);
    }
    for (std::int64_t j = 0; j < count(module.b_form, at); ++j) {
      add_b_boxes(site, cut, at.t, factors, j * element_count(shapes.b).value(), b);
    }
    if (!is_zero(a, adapter_.files[at.file], *shard.a) ||
        !is_zero(b, adapter_.files[at.file], *shard.b)) {
      return false;
    }
  }
  return true;
}

bool HfPlanner::is_zero(const std::vector<layout::Box>& boxes, const io::Checkpoint& file,
                        const io::StoredTensor& tensor) {
  const auto all = file.bytes(tensor);
  const auto size = static_cast<std::size_t>(bytes(tensor.spec.dtype));
  for (const layout::Box& box : boxes) {
    for (std::int64_t i = 0; box.source < 0 && i < box.elements(); ++i) {
      const auto at = static_cast<std::size_t>(layout::place_of(box, i).target) * size;
      const auto element = all.subspan(at, size);
      if (std::any_of(element.begin(), element.end(),
                      [](std::byte one) { return one != std::byte{0}; })) {
        return false;
      }
    }
  }
  return true;
}

Block HfPlanner::block_of(const Site& site, const RecordBlock& record) {
  Block out;
  out.hf = static_cast<std::size_t>(record.hf);
  out.rows = site.rows_of(out.hf);
  out.rank = record.rank;
  out.at = record.at;
  return out;
}

void HfPlanner::gather(const AdapterModule& module, const Site& site, Block block,
                       std::int64_t expert, Gathered& a, Gathered& b, int fold) const {
  const AdapterCut cut = cut_of(module, site);
  LayerFactors factors;
  factors.rank = module.rank;
  factors.blocks = {block};
  const FactorShapes shapes = local_shapes(site, cut, module.rank).value();
  ShardSources numbers;
  std::set<std::int64_t> seen_a;
  std::set<std::int64_t> seen_b;
  std::set<std::int64_t> seen_rows;
  for (const ModuleShard& shard : module.shards) {
    const SiteShard& at = sites_.shards()[shard.shard];
    const io::Checkpoint& file = adapter_.files[at.file];
    const std::int64_t local = expert - at.first_expert;
    const bool mine = expert < 0 || at.first_expert < 0 || (local >= 0 && local < at.experts);
    const auto origin = [&](ExpertForm form, const Shape& shape) {
      return form == ExpertForm::Each ? local * element_count(shape).value() : 0;
    };
    if ((mine || module.a_form == ExpertForm::Shared) && seen_a.insert(at.t).second) {
      std::vector<layout::Box> boxes;
      add_a_boxes(site, cut, at.t, factors, origin(module.a_form, shapes.a), boxes);
      add_inverse(boxes, numbers.number({&file, &shard.a->spec}, a), a);
    }
    if ((mine || module.b_form == ExpertForm::Shared) && seen_b.insert(at.t).second) {
      std::vector<layout::Box> boxes;
      add_b_boxes(site, cut, at.t, factors, origin(module.b_form, shapes.b), boxes);
      site.repeats ? keep_first_copies(boxes, block.rank, seen_rows) : void();
      const checkpoint::SourceTensor as_held{&file, &shard.b->spec};
      add_inverse(boxes,
                  numbers.number(fold == 0 ? as_held : scaled_->times(as_held, fold)->source(), b),
                  b);
    }
  }
}

void HfPlanner::add_plain(const AdapterModule& module, const Site& site, const RecordBlock& record,
                          const std::string& name, std::int64_t expert) {
  Block block = block_of(site, record);
  block.a = {0, 0, site.in, 1};
  block.b = {0, 0, block.rank, 1};
  Gathered a{adapter_key(name, KeyKind::A), {block.rank, site.in}, {}, {}};
  Gathered b{adapter_key(name, KeyKind::B), {block.rows, block.rank}, {}, {}};
  gather(module, site, block, expert, a, b, -record.fold);
  tensors_.push_back(std::move(a));
  tensors_.push_back(std::move(b));
  if (module.shards.front().magnitude != nullptr) {
    tensors_.push_back({adapter_key(name, KeyKind::Magnitude), {block.rows}, {}, {}});
    gather_magnitude(module, site, block, 0, tensors_.back());
    dora_ = true;
  }
  const std::string path(module_of(name));
  const bool router = site.module.ends_with(kRouter);
  const bool parameter = router || moved_by_peft(base_, path);
  targets_.push_back({parameter ? name : path, parameter, block.rank,
                      alpha_of_pair(module, block.rank, record.fold), router});
}

void HfPlanner::gather_magnitude(const AdapterModule& module, const Site& site, Block block,
                                 std::int64_t first, Gathered& out) const {
  AdapterCut cut = cut_of(module, site);
  const bool whole = site.cut != BaseCut::Rows;
  cut.whole = cut.whole || whole;
  block.b = {0, first, 1, 0};
  LayerFactors factors;
  factors.rank = 1;
  factors.blocks = {block};
  ShardSources numbers;
  std::set<std::int64_t> seen_rows;
  for (const ModuleShard& shard : module.shards) {
    const SiteShard& at = sites_.shards()[shard.shard];
    std::vector<layout::Box> boxes;
    add_row_boxes(site, cut, at.t, factors, 0, boxes);
    site.repeats ? keep_first_copies(boxes, 1, seen_rows) : void();
    add_inverse(boxes, numbers.number({&adapter_.files[at.file], &shard.magnitude->spec}, out),
                out);
    if (whole) {
      break;  // every rank has them all
    }
  }
}

}  // namespace bv::lora
