#include "core/lora/to_hf.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/factor_boxes.hpp"
#include "core/lora/hf_config.hpp"
#include "core/lora/path_pattern.hpp"
#include "core/lora/to_megatron.hpp"
#include "core/lora/wrapped.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::lora {
namespace {

constexpr std::string_view kDecoderExperts = "decoder_experts";
constexpr std::string_view kRouter = ".router";

/// An HF tensor that is put together from shards.
struct Gathered {
  std::string key;
  Shape shape;
  std::vector<checkpoint::SourceTensor> sources;
  std::vector<layout::Box> boxes;
};

/// Shards of one module as numbered sources of an HF tensor.
class ShardSources {
 public:
  std::int32_t number(const io::Checkpoint& file, const io::StoredTensor& tensor, Gathered& out) {
    for (std::size_t i = 0; i < out.sources.size(); ++i) {
      if (out.sources[i].tensor == &tensor) {
        return static_cast<std::int32_t>(i);
      }
    }
    out.sources.push_back({&file, &tensor});
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

class HfPlanner {
 public:
  HfPlanner(const MegatronAdapter& adapter, const SitePlan& sites, const SitePlan& of_class,
            const checkpoint::HfModel& base)
      : adapter_(adapter), sites_(sites), class_(of_class), base_(base) {}

  Result<HfAdapterFiles> run() {
    if (adapter_.modules.empty()) {
      return fail(Code::AdapterInvalid, "the folder holds no adapter")
          .pair("no parameter with .adapter. in its name", "adapters of linear layers")
          .advise("give the folder that holds the adapter parameters");
    }
    for (std::size_t i = 0; i < class_.sites().size(); ++i) {
      class_sites_[class_.sites()[i].module] = i;
    }
    for (const AdapterModule& module : adapter_.modules) {
      const std::string& name = sites_.sites()[module.site].module;
      if (!class_sites_.contains(name)) {
        return fail(Code::AdapterNoForm, fmt::format("the class of the base has no {}", name))
            .pair(name_of(module), "a layer of the class")
            .advise("merge the adapter into its base, and convert the merged model");
      }
    }
    find_packed();
    for (const AdapterModule& module : adapter_.modules) {
      BV_CHECK(add_module(module));
    }
    BV_CHECK(check_experts());
    finish_tensors();
    BV_CHECK(finish_config());
    return std::move(out_);
  }

 private:
  const Site& class_site(const AdapterModule& module) const {
    return class_.sites()[class_sites_.at(sites_.sites()[module.site].module)];
  }
  const model::Mapping& class_mapping(const Site& site, std::int64_t expert) const {
    return class_.plan().model().mappings[site.mapping_of(std::max<std::int64_t>(expert, 0))];
  }
  static bool is_packed(const Site& site, const model::Mapping& mapping) {
    return (site.experts > 0 || site.expert_number >= 0) && mapping.expert < 0;
  }
  static std::string parent_of(const std::string& name) {
    return name.substr(0, name.size() - std::min(name.size(), last_component(name).size() + 1));
  }

  /// Packed parameters by module, in the order in which it registers them, and those with adapters.
  void find_packed() {
    std::set<std::string> seen;
    for (const Site& site : class_.sites()) {
      const model::Mapping& mapping = class_mapping(site, site.experts > 0 ? 0 : -1);
      if (is_packed(site, mapping)) {
        for (const std::string& name : mapping.hf) {
          if (seen.insert(name).second) {
            registered_[parent_of(name)].push_back(name);
          }
        }
      }
    }
    // The class registers them as the family lists its rules, not as names sort.
    std::map<std::string, std::size_t> order;
    for (const model::Mapping& mapping : class_.plan().model().mappings) {
      for (const std::string& name : mapping.hf) {
        order.try_emplace(name, order.size());
      }
    }
    for (auto& [module, names] : registered_) {
      std::sort(names.begin(), names.end(),
                [&](const std::string& a, const std::string& b) { return order[a] < order[b]; });
    }
    for (const AdapterModule& module : adapter_.modules) {
      const Site& site = class_site(module);
      const model::Mapping& mapping = class_mapping(site, site.experts > 0 ? 0 : -1);
      if (is_packed(site, mapping)) {
        targeted_.insert(targeted_.end(), mapping.hf.begin(), mapping.hf.end());
      }
    }
  }

  /// "….experts" with one ".base_layer" for each wrapper inside.
  std::string wrapper_of(const std::string& parameter) const {
    std::string out = parent_of(parameter);
    for (const NestedParameter& one : nesting_of(registered_.at(out), targeted_)) {
      if (one.name == parameter) {
        for (int i = 0; i < one.depth; ++i) {
          out += ".base_layer";
        }
        break;
      }
    }
    return out;
  }

  // One module.

  Status add_module(const AdapterModule& module) {
    const Site& site = class_site(module);
    const std::vector<RecordBlock> blocks = blocks_of(module, site);
    const std::int64_t experts = site.experts;
    const bool packed = is_packed(site, class_mapping(site, experts > 0 ? 0 : -1));
    for (std::int64_t e = experts > 0 ? 0 : -1; e < std::max<std::int64_t>(experts, 0); ++e) {
      const model::Mapping& mapping = class_mapping(site, e);
      for (const RecordBlock& block : blocks) {
        const auto hf = static_cast<std::size_t>(block.hf);
        packed ? add_packed(module, site, block, mapping.hf[hf], e)
               : add_plain(module, site, block, mapping.hf[hf], e);
      }
    }
    return Done{};
  }

  AdapterCut cut_of(const AdapterModule& module, const Site& site) const {
    AdapterCut cut = adapter_cut(site, sites_.ways(site));
    cut.whole = module.whole;
    if (!module.key.empty()) {
      cut.key = static_cast<std::int64_t>(site.keys.at(module.key));
      cut.b_as_base = false;
    }
    return cut;
  }

  /// Every HF tensor of the layer with the whole pair, or the pairs that it was put together from
  /// when what was zero between them still is.
  std::vector<RecordBlock> blocks_of(const AdapterModule& module, const Site& site) {
    const std::string name = name_of(module);
    const LayerRecord* record = record_of(name);
    verbatim_ = verbatim_ && record != nullptr;
    std::vector<RecordBlock> all;
    for (std::size_t i = 0; i < site.rows->source_shapes().size(); ++i) {
      if (module.key.empty() || site.keys.at(module.key) == i) {
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
      return recorded;
    }
    verbatim_ = false;
    out_.notes.push_back(fmt::format(
        "{} was trained since it was put together: its pairs come back as one of rank {}", name,
        module.rank));
    return all;
  }

  const LayerRecord* record_of(const std::string& name) const {
    if (!adapter_.record) {
      return nullptr;
    }
    const auto found = adapter_.record->layers.find(name);
    return found == adapter_.record->layers.end() ? nullptr : &found->second;
  }

  bool zeros_are_zero(const AdapterModule& module, const Site& site,
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

  static bool is_zero(const std::vector<layout::Box>& boxes, const io::Checkpoint& file,
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

  static Block block_of(const Site& site, const RecordBlock& record) {
    Block out;
    out.hf = static_cast<std::size_t>(record.hf);
    out.rows = site.rows_of(out.hf);
    out.rank = record.rank;
    out.at = record.at;
    return out;
  }

  std::string name_of(const AdapterModule& module) const {
    const std::string& site = sites_.sites()[module.site].module;
    return module.key.empty() ? site : site + "." + module.key;
  }

  /// Adds what the shards hold of one pair; `expert` -1 for a layer without experts.
  void gather(const AdapterModule& module, const Site& site, Block block, std::int64_t expert,
              Gathered& a, Gathered& b) const {
    const AdapterCut cut = cut_of(module, site);
    LayerFactors factors;
    factors.rank = module.rank;
    factors.blocks = {block};
    const FactorShapes shapes = local_shapes(site, cut, module.rank).value();
    ShardSources numbers;
    std::set<std::int64_t> seen_a;
    std::set<std::int64_t> seen_b;
    for (const ModuleShard& shard : module.shards) {
      const SiteShard& at = sites_.shards()[shard.shard];
      const std::int64_t local = expert - at.first_expert;
      const bool mine = expert < 0 || at.first_expert < 0 || (local >= 0 && local < at.experts);
      const auto origin = [&](ExpertForm form, const Shape& shape) {
        return form == ExpertForm::Each ? local * element_count(shape).value() : 0;
      };
      if ((mine || module.a_form == ExpertForm::Shared) && seen_a.insert(at.t).second) {
        std::vector<layout::Box> boxes;
        add_a_boxes(site, cut, at.t, factors, origin(module.a_form, shapes.a), boxes);
        add_inverse(boxes, numbers.number(adapter_.files[at.file], *shard.a, a), a);
      }
      if ((mine || module.b_form == ExpertForm::Shared) && seen_b.insert(at.t).second) {
        std::vector<layout::Box> boxes;
        add_b_boxes(site, cut, at.t, factors, origin(module.b_form, shapes.b), boxes);
        add_inverse(boxes, numbers.number(adapter_.files[at.file], *shard.b, b), b);
      }
    }
  }

  void add_plain(const AdapterModule& module, const Site& site, const RecordBlock& record,
                 const std::string& name, std::int64_t expert) {
    Block block = block_of(site, record);
    block.a = {0, 0, site.in, 1};
    block.b = {0, 0, block.rank, 1};
    Gathered a{adapter_key(name, KeyKind::A), {block.rank, site.in}, {}, {}};
    Gathered b{adapter_key(name, KeyKind::B), {block.rows, block.rank}, {}, {}};
    gather(module, site, block, expert, a, b);
    tensors_.push_back(std::move(a));
    tensors_.push_back(std::move(b));
    if (module.shards.front().magnitude != nullptr) {
      add_magnitude(module, site, block, name);
    }
    const bool router = site.module.ends_with(kRouter);
    targets_.push_back({router ? name : std::string(module_of(name)), router, block.rank,
                        alpha_of_pair(module, block.rank)});
  }

  static double alpha_of_pair(const AdapterModule& module, std::int64_t rank) {
    return rank == module.rank
               ? module.alpha
               : module.alpha / static_cast<double>(module.rank) * static_cast<double>(rank);
  }

  void add_magnitude(const AdapterModule& module, const Site& site, Block block,
                     const std::string& name) {
    Gathered out{adapter_key(name, KeyKind::Magnitude), {block.rows}, {}, {}};
    AdapterCut cut = cut_of(module, site);
    const bool whole = site.cut != BaseCut::Rows;
    cut.whole = cut.whole || whole;
    block.b = {0, 0, 1, 0};
    LayerFactors factors;
    factors.rank = 1;
    factors.blocks = {block};
    ShardSources numbers;
    for (const ModuleShard& shard : module.shards) {
      const SiteShard& at = sites_.shards()[shard.shard];
      std::vector<layout::Box> boxes;
      add_row_boxes(site, cut, at.t, factors, 0, boxes);
      add_inverse(boxes, numbers.number(adapter_.files[at.file], *shard.magnitude, out), out);
      if (whole) {
        break;  // every rank has them all
      }
    }
    tensors_.push_back(std::move(out));
    dora_ = true;
  }

  void add_packed(const AdapterModule& module, const Site& site, const RecordBlock& record,
                  const std::string& parameter, std::int64_t expert) {
    const std::int64_t experts =
        class_.plan().model().geometry.get("num_experts").value_or(site.experts);
    const std::int64_t e = site.expert_number >= 0 ? site.expert_number : expert;
    Block block = block_of(site, record);
    const std::int64_t r = block.rank;
    const auto [at, added] = packed_.try_emplace(parameter, tensors_.size());
    if (added) {
      const std::string wrapper = wrapper_of(parameter);
      tensors_.push_back({adapter_key(wrapper, KeyKind::A), {experts * r, site.in}, {}, {}});
      tensors_.push_back({adapter_key(wrapper, KeyKind::B), {block.rows, r * experts}, {}, {}});
      targets_.push_back({parameter, true, r, alpha_of_pair(module, r)});
    }
    block.a = {0, e * r * site.in, site.in, 1};
    block.b = {0, e, r * experts, experts};
    experts_[parameter].insert(e);
    gather(module, site, block, expert, tensors_[at->second], tensors_[at->second + 1]);
  }

  /// A stack needs every expert.
  Status check_experts() const {
    const std::int64_t wanted = class_.plan().model().geometry.get("num_experts").value_or(0);
    for (const auto& [parameter, there] : experts_) {
      for (std::int64_t e = 0; e < wanted; ++e) {
        if (!there.contains(e)) {
          return fail(Code::ExpertPairCount,
                      fmt::format("expert {} of {} has no adapter", e, parameter))
              .pair(fmt::format("{} experts", there.size()), fmt::format("all {}", wanted))
              .advise("export the adapter again, with the experts of all ranks");
        }
      }
    }
    return Done{};
  }

  // The folder.

  void finish_tensors() {
    out_.weights.name = std::string(kAdapterModelName);
    out_.weights.metadata = {{"format", "pt"}};
    for (Gathered& one : tensors_) {
      std::sort(one.boxes.begin(), one.boxes.end(), [](const layout::Box& a, const layout::Box& b) {
        return a.target_offset < b.target_offset;
      });
      convert::OutputTensor tensor;
      tensor.spec = {one.key, one.sources.front().tensor->spec.dtype, one.shape};
      for (const checkpoint::SourceTensor& source : one.sources) {
        if (source.tensor->spec.dtype != tensor.spec.dtype) {
          tensor.spec.dtype = DType::F32;
        }
      }
      tensor.sources = std::move(one.sources);
      tensor.boxes = [boxes = std::move(one.boxes)] { return boxes; };
      out_.weights.tensors.push_back(std::move(tensor));
    }
  }

  Status finish_config() {
    if (adapter_.record && !adapter_.record->config.empty() && verbatim_) {
      auto config = parse_adapter_config(adapter_.record->config, std::string(kAdapterConfigName));
      if (config && same_modules() && fits(*config)) {
        out_.config = std::move(*config);
        out_.config_text = adapter_.record->config;
        return Done{};
      }
    }
    BV_TRY(modules, class_modules(base_));
    out_.config = config_for(targets_, modules);
    out_.config.use_dora = dora_;
    out_.config.peft_version = kWrittenPeftVersion;
    out_.config_text = adapter_config_text(out_.config);
    return Done{};
  }

  /// The config that came along names these targets with these ranks.
  bool fits(const AdapterConfig& config) const {
    std::vector<std::pair<PathPattern, std::int64_t>> ranks;
    for (const auto& [pattern, rank] : config.rank_pattern) {
      auto compiled = PathPattern::compile(pattern, PathPattern::Extent::Suffix);
      if (!compiled) {
        return false;
      }
      ranks.emplace_back(std::move(*compiled), rank);
    }
    return std::all_of(targets_.begin(), targets_.end(), [&](const HfTarget& target) {
      const auto match = std::find_if(ranks.begin(), ranks.end(), [&](const auto& one) {
        return one.first.matches(target.path);
      });
      const auto& names = config.target_parameters;
      const bool named = std::any_of(names.begin(), names.end(), [&](const std::string& one) {
        return target.path == one || target.path.ends_with("." + one);
      });
      return (match == ranks.end() ? config.r : match->second) == target.rank &&
             target.parameter == named;
    });
  }

  /// All that the record lists is there, and nothing else.
  bool same_modules() const {
    std::set<std::string> there;
    for (const AdapterModule& module : adapter_.modules) {
      there.insert(name_of(module));
    }
    std::set<std::string> recorded;
    for (const auto& [name, layer] : adapter_.record->layers) {
      recorded.insert(name);
    }
    return there == recorded;
  }

  const MegatronAdapter& adapter_;
  const SitePlan& sites_;
  const SitePlan& class_;
  const checkpoint::HfModel& base_;
  std::map<std::string, std::size_t, std::less<>> class_sites_;
  std::map<std::string, std::vector<std::string>> registered_;
  std::vector<std::string> targeted_;
  std::map<std::string, std::set<std::int64_t>> experts_;  // of packed parameters
  std::map<std::string, std::size_t> packed_;              // parameter -> its lora_A in tensors_
  std::vector<Gathered> tensors_;
  std::vector<HfTarget> targets_;
  bool dora_ = false;
  bool verbatim_ = true;
  HfAdapterFiles out_;
};

}  // namespace

Result<model::Model> class_model(const checkpoint::HfModel& base) {
  BV_TRY(config, checkpoint::parse_config(base.config_text, "config.json"));
  model::ResolveOptions options = base.resolve;
  options.config_only = true;
  options.match.clear();
  std::string experts;
  for (const model::Detected& one : base.model.detected) {
    if (one.what.ends_with("_experts")) {
      options.forms[one.what] = one.value;
      experts = one.what == kDecoderExperts ? one.value : experts;
    }
  }
  for (const auto& [name, text] : base.model.prefixes) {
    options.forms[model::prefix_form(name)] = text;
  }
  if (experts == "per_expert") {
    options.forms[std::string(kDecoderExperts)] = "packed";
  }
  return model::resolve(base.model.family, config, {}, options);
}

Result<HfAdapterFiles> plan_to_hf(const MegatronAdapter& adapter, const SitePlan& sites,
                                  const SitePlan& of_class, const checkpoint::HfModel& base) {
  return HfPlanner(adapter, sites, of_class, base).run();
}

Result<Adapter> adapter_in_memory(const HfAdapterFiles& files, const checkpoint::HfModel& base,
                                  const kinds::Catalogue& kinds) {
  auto memory = std::make_shared<std::vector<std::vector<std::byte>>>();
  std::vector<AdapterTensor> tensors;
  for (const convert::OutputTensor& tensor : files.weights.tensors) {
    const auto elements = element_count(tensor.spec.shape).value();
    move::TensorMaker maker(
        {tensor.spec.dtype, elements, tensor.boxes(), checkpoint::bytes_of(tensor.sources)});
    std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * maker.element_bytes());
    BV_CHECK(maker.make(0, elements, bytes.data()));
    memory->push_back(std::move(bytes));
    tensors.push_back({{tensor.spec, 0, 0, memory->back().size()}, memory->back()});
  }
  BV_TRY(out, fit_adapter(files.config, std::move(tensors), base, kinds, "the adapter"));
  out.keeps = std::move(memory);
  return std::move(out);
}

}  // namespace bv::lora
