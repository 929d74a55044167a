#include "core/lora/megatron_adapter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/factor_boxes.hpp"
#include "core/lora/to_megatron.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kAdapterPart = ".adapter.";

/// "….linear_qkv.adapter.adapter_q.linear_in.weight", taken apart.
struct ParameterName {
  std::string module;
  std::string key;
  enum class What { A, B, Magnitude } what = What::A;
};

std::optional<ParameterName> parse_parameter(std::string_view name) {
  const std::size_t at = name.rfind(kAdapterPart);
  if (at == std::string_view::npos || at == 0) {
    return std::nullopt;
  }
  ParameterName out;
  out.module = name.substr(0, at);
  std::string_view rest = name.substr(at + kAdapterPart.size());
  if (rest.starts_with("adapter_")) {
    const std::size_t dot = rest.find('.');
    out.key = rest.substr(0, std::min(dot, rest.size()));
    rest = dot == std::string_view::npos ? "" : rest.substr(dot + 1);
  }
  if (rest == "linear_in.weight" || rest == "linear_out.weight") {
    out.what = rest == "linear_in.weight" ? ParameterName::What::A : ParameterName::What::B;
    return out;
  }
  if (rest == "weight_magnitude") {
    out.what = ParameterName::What::Magnitude;
    return out;
  }
  return std::nullopt;
}

class MegatronReader {
 public:
  MegatronReader(MegatronAdapter& out, const SitePlan& sites, const StatedAdapter& stated)
      : out_(out), sites_(sites), stated_(stated) {}

  Status read() {
    BV_CHECK(open_files());
    check_contents();
    index_shards();
    for (std::size_t f = 0; f < out_.files.size(); ++f) {
      for (const auto& [name, stored] : out_.files[f].tensors()) {
        ++out_.parameters;
        add_parameter(f, name, stored);
      }
    }
    if (out_.parameters == 0) {
      return fail(Code::AdapterInvalid,
                  fmt::format("{} holds no adapter", io::printable_path(out_.folder)))
          .pair("files without a parameter", "LAYER.adapter.linear_in.weight, linear_out.weight")
          .advise("export the adapter again: nothing of it was saved");
    }
    check_keys();
    for (auto& [id, found] : found_) {
      BV_CHECK(finish_module(id, found));
    }
    return Done{};
  }

 private:
  using ModuleId = std::pair<std::size_t, std::string>;  // site, key

  void fault(Code code, const std::string& key, const std::string& what, std::string found,
             std::string wanted, std::string help) {
    const std::string place = place_text(key);
    out_.faults.push_back({code, key,
                           fmt::format("{}{}{}", io::in_quotes(key),
                                       place.empty() ? "" : fmt::format(" ({})", place), what),
                           std::move(found), std::move(wanted), std::move(help)});
  }
  static constexpr const char* kAgain = "export the adapter again, on every rank";

  Status open_files() {
    for (const plan::ShardFile& file : sites_.plan().files()) {
      const fs::path path = out_.folder / file.name;
      if (!io::has_entry(path)) {
        return fail(Code::AdapterInvalid,
                    fmt::format("{} has no {}", io::printable_path(out_.folder), file.name))
            .pair("no such file",
                  fmt::format("one file a rank of {}", parallel::layout_id(out_.layout)))
            .advise("bring the files of all ranks together, or state the layout that wrote them");
      }
      BV_TRY(opened, io::Checkpoint::open(path));
      out_.files.push_back(std::move(opened));
    }
    return Done{};
  }

  void check_contents() {
    for (const ExchangedFile& one : exchanged_files(out_, sites_.plan())) {
      fault(
          Code::ContentsExchanged, one.name,
          fmt::format(" holds what {} held when the adapter was converted", io::in_quotes(one.of)),
          "the factors of another rank", "its own, by the fingerprints of adapter.json",
          "put each file back under its own name, or convert the adapter again");
    }
  }

  void index_shards() {
    for (std::size_t i = 0; i < sites_.shards().size(); ++i) {
      const SiteShard& shard = sites_.shards()[i];
      by_name_[{shard.file, shard.module}] = i;
    }
  }

  void add_parameter(std::size_t file, const std::string& name, const io::StoredTensor& stored) {
    const auto parsed = parse_parameter(name);
    const auto shard = parsed ? by_name_.find({file, parsed->module}) : by_name_.end();
    if (shard == by_name_.end()) {
      fault(Code::AdapterName, name,
            parsed ? fmt::format(" is of no linear layer of {}", sites_.plan().files()[file].name)
                   : " is not a parameter of an adapter",
            sites_.plan().files()[file].name, "LAYER.adapter.linear_in.weight, linear_out.weight",
            "give the base and the layout that the adapter was trained with");
      return;
    }
    const std::size_t number = sites_.shards()[shard->second].site;
    const Site& site = sites_.sites()[number];
    if (!parsed->key.empty() && !site.keys.contains(parsed->key)) {
      std::vector<std::string> keys;
      for (const auto& [key, rows] : site.keys) {
        keys.push_back(key);
      }
      fault(Code::AdapterName, name, " names no projection of its layer",
            io::in_quotes(parsed->key),
            keys.empty() ? "one adapter for the layer" : "one of " + join(keys, " "),
            "give the base that the adapter was trained on");
      return;
    }
    ModuleShard& module = found_[{number, parsed->key}][shard->second];
    module.shard = shard->second;
    (parsed->what == ParameterName::What::A   ? module.a
     : parsed->what == ParameterName::What::B ? module.b
                                              : module.magnitude) = &stored;
  }

  /// One pair for a layer, or one for each of its projections.
  void check_keys() {
    for (const auto& [id, found] : found_) {
      const auto fused = found_.find({id.first, ""});
      if (!id.second.empty() && fused != found_.end()) {
        const Site& site = sites_.sites()[id.first];
        fault(Code::AdapterName, megatron_names(site.module, id.second).b,
              " lies beside an adapter of the whole layer", "two pairs for the same rows",
              "one pair for the layer, or one for each projection", kAgain);
      }
    }
  }

  // One module.

  Status finish_module(const ModuleId& id, const std::map<std::size_t, ModuleShard>& found) {
    AdapterModule module;
    module.site = id.first;
    module.key = id.second;
    const Site& site = sites_.sites()[id.first];
    const std::string name = megatron_names(site.module, id.second).b;
    for (const std::size_t shard : sites_.shards_of(id.first)) {
      const auto at = found.find(shard);
      const ModuleShard* one = at == found.end() ? nullptr : &at->second;
      if (one == nullptr || one->a == nullptr || one->b == nullptr) {
        const bool a = one != nullptr && one->a == nullptr && one->b != nullptr;
        fault(Code::AdapterPairBroken, name, " is not whole",
              fmt::format("no {} in {}", a ? "linear_in" : "linear_out",
                          sites_.plan().files()[sites_.shards()[shard].file].name),
              "both factors on every rank that has the layer", kAgain);
        return Done{};
      }
      module.shards.push_back(*one);
    }
    if (!classify(site, module, name)) {
      return Done{};
    }
    split_replicas(site, module);
    const LayerRecord* record = record_of(site, id.second);
    if (record == nullptr && !stated_.alpha) {
      return fail(Code::AdapterInvalid, fmt::format("the scale of {} is not known", name))
          .pair(out_.record ? "no such layer in adapter.json" : "no adapter.json and no alpha",
                "alpha: the scale is alpha / rank")
          .advise("write --alpha N, the alpha that it was trained with");
    }
    module.alpha = record != nullptr ? record->alpha : *stated_.alpha;
    tell_block_diagonal(site);
    out_.modules.push_back(std::move(module));
    return Done{};
  }

  /// Megatron-Bridge adds what its ranks hold, without the sum over them that the product needs.
  void tell_block_diagonal(const Site& site) {
    if (site.expert && site.cut == BaseCut::Columns && sites_.ways(site) > 1 &&
        out_.notes.empty()) {
      out_.notes.push_back(fmt::format(
          "{} under ETP {}: Megatron-Bridge 0.6.2 does not sum over the ranks after A, so "
          "what was trained is not s * B * A, which is what is read here",
          site.module, sites_.ways(site)));
    }
  }

  const LayerRecord* record_of(const Site& site, const std::string& key) const {
    if (!out_.record) {
      return nullptr;
    }
    const auto found =
        out_.record->layers.find(key.empty() ? site.module : site.module + "." + key);
    return found == out_.record->layers.end() ? nullptr : &found->second;
  }

  static ExpertForm form_of(const Site& site, const Shape& shape) {
    return site.experts == 0   ? ExpertForm::None
           : shape.size() == 3 ? ExpertForm::Each
                               : ExpertForm::Shared;
  }

  /// Rank, forms and shapes of all shards.
  bool classify(const Site& site, AdapterModule& module, const std::string& name) {
    const Shape& a = module.shards.front().a->spec.shape;
    const Shape& b = module.shards.front().b->spec.shape;
    if (a.size() < 2 || b.size() < 2 || a.size() > 3 || b.size() > 3) {
      fault(Code::AdapterShape, name, " is not a matrix", shape_text(b),
            "a matrix, or one for each expert", kAgain);
      return false;
    }
    module.a_form = form_of(site, a);
    module.b_form = form_of(site, b);
    const std::int64_t t = sites_.ways(site);
    AdapterCut cut = cut_of(site, module);
    // A column-parallel or replicated layer keeps r/T rows of A beside all r columns of B; one
    // factor common to all experts is the side that is cut.
    module.rank = b.back();
    const bool outer = module.a_form != module.b_form;
    if (outer && t > 1) {
      fault(Code::AdapterNoForm, name, " shares one factor among its experts under ETP",
            fmt::format("ETP {}", t), "ETP 1: Megatron defines that form for it alone",
            "merge the adapter, or gather it with ETP 1");
      return false;
    }
    module.whole = t > 1 && site.cut == BaseCut::Nothing && a[a.size() - 2] == module.rank &&
                   b[b.size() - 2] == site.out;
    cut.whole = module.whole;
    const auto shapes = local_shapes(site, cut, module.rank);
    for (const ModuleShard& shard : module.shards) {
      if (!shapes || !fits(module, shard, *shapes)) {
        fault(Code::AdapterShape, name, " and its linear_in do not fit their layer",
              fmt::format("linear_in {}, linear_out {}", shape_text(shard.a->spec.shape),
                          shape_text(shard.b->spec.shape)),
              shapes ? fmt::format("linear_in {}, linear_out {}{}", shape_text(shapes->a),
                                   shape_text(shapes->b),
                                   site.experts > 0 ? ", for each expert of the rank" : "")
                     : shapes.error().message,
              "give the base and the layout that the adapter was trained with");
        return false;
      }
    }
    const bool dora = module.shards.front().magnitude != nullptr;
    if (std::any_of(module.shards.begin(), module.shards.end(),
                    [&](const ModuleShard& one) { return (one.magnitude != nullptr) != dora; })) {
      fault(Code::AdapterPairBroken, name, " has magnitudes on some ranks only", "some ranks",
            "all ranks or none", kAgain);
      return false;
    }
    return true;
  }

  AdapterCut cut_of(const Site& site, const AdapterModule& module) const {
    AdapterCut cut = adapter_cut(site, sites_.ways(site));
    if (!module.key.empty()) {
      cut.key = site.keys.at(module.key);
      cut.b_as_base = false;
    }
    cut.whole = module.whole;
    return cut;
  }

  bool fits(const AdapterModule& module, const ModuleShard& shard,
            const FactorShapes& shapes) const {
    const std::int64_t experts = sites_.shards()[shard.shard].experts;
    const auto wanted = [&](ExpertForm form, Shape shape) {
      if (form == ExpertForm::Each) {
        shape.insert(shape.begin(), experts);
      }
      return shape;
    };
    return shard.a->spec.shape == wanted(module.a_form, shapes.a) &&
           shard.b->spec.shape == wanted(module.b_form, shapes.b) && module.rank > 0;
  }

  /// Ranks that hold the same: of other expert-parallel ranks for dense layers, and for a factor
  /// that all experts share. They must be equal.
  void split_replicas(const Site& site, AdapterModule& module) {
    std::vector<ModuleShard> distinct;
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    const bool shared = module.a_form == ExpertForm::Shared && module.b_form == ExpertForm::Shared;
    const std::vector<ModuleShard> all = std::move(module.shards);
    for (const ModuleShard& one : all) {
      const SiteShard& shard = sites_.shards()[one.shard];
      const auto id = std::pair{module.whole ? 0 : shard.t, shared ? -1 : shard.first_expert};
      (seen.insert(id).second ? distinct : module.replicas).push_back(one);
    }
    module.shards = std::move(distinct);
    for (const ModuleShard& one : all) {
      const SiteShard& shard = sites_.shards()[one.shard];
      for (const ModuleShard& other : module.shards) {
        const SiteShard& there = sites_.shards()[other.shard];
        const bool same_t = module.whole || there.t == shard.t;
        const bool same_experts = there.first_expert == shard.first_expert;
        if (other.shard == one.shard || !same_t) {
          continue;
        }
        if (same_experts || module.a_form == ExpertForm::Shared) {
          compare(one, other, one.a, other.a);
        }
        if (same_experts || module.b_form == ExpertForm::Shared) {
          compare(one, other, one.b, other.b);
        }
      }
    }
    if (site.cut != BaseCut::Rows && module.key.empty()) {
      for (const ModuleShard& one : all) {
        if (one.magnitude != nullptr) {
          compare(one, all.front(), one.magnitude, all.front().magnitude);
        }
      }
    }
  }

  void compare(const ModuleShard& one, const ModuleShard& two, const io::StoredTensor* a,
               const io::StoredTensor* b) {
    const std::size_t file_a = sites_.shards()[one.shard].file;
    const std::size_t file_b = sites_.shards()[two.shard].file;
    const auto bytes_a = out_.files[file_a].bytes(*a);
    const auto bytes_b = out_.files[file_b].bytes(*b);
    if (a == b || (a->spec.dtype == b->spec.dtype &&
                   std::equal(bytes_a.begin(), bytes_a.end(), bytes_b.begin(), bytes_b.end()))) {
      return;
    }
    const bool known = std::any_of(out_.faults.begin(), out_.faults.end(), [&](const auto& fault) {
      return fault.code == Code::AdapterReplicas && fault.key == a->spec.name;
    });
    if (!known) {
      fault(Code::AdapterReplicas, a->spec.name,
            " differs between two ranks that must hold the same",
            fmt::format("{} and {}", sites_.plan().files()[file_b].name,
                        sites_.plan().files()[file_a].name),
            "equal bytes", "find the rank that diverged");
    }
  }

  MegatronAdapter& out_;
  const SitePlan& sites_;
  const StatedAdapter& stated_;
  std::map<std::pair<std::size_t, std::string>, std::size_t> by_name_;  // file, module -> shard
  std::map<ModuleId, std::map<std::size_t, ModuleShard>> found_;
};

}  // namespace

Result<MegatronAdapter> open_megatron_adapter(const fs::path& folder, const SitePlan& sites,
                                              std::optional<AdapterRecord> record,
                                              const StatedAdapter& stated) {
  MegatronAdapter out;
  out.folder = folder;
  out.record = std::move(record);
  out.layout = sites.plan().layout();
  BV_CHECK(MegatronReader(out, sites, stated).read());
  return out;
}

}  // namespace bv::lora
