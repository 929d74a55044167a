#include "core/lora/class_modules.hpp"

#include <algorithm>

#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/tied_head.hpp"
#include "core/lora/to_hf.hpp"

namespace bv::lora {
namespace {

/// The HF tensors of MTP layers.
std::set<std::string> mtp_tensors(const checkpoint::HfModel& base) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.stage == family::Stage::Mtp) {
      out.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  return out;
}

}  // namespace

std::string Naming::of(std::string_view in_file) const {
  return joined_module(family, class_name(family, in_file));
}

Naming naming_of(const Adapter& adapter, const checkpoint::HfModel& base) {
  const family::Family* family = base.model.family.get();
  const Naming names_of_class{family};
  const bool of_files =
      std::any_of(adapter.pairs.begin(), adapter.pairs.end(), [&](const AdapterPair& pair) {
        std::string why;
        const auto key = parse_adapter_key(pair.b.key(), why);
        return key && names_of_class.of(key->path) != key->path;
      });
  return {of_files ? nullptr : family};
}

MtpLayers mtp_layers_of(const checkpoint::HfModel& base, const std::vector<std::string>& tensors) {
  const std::set<std::string> there = mtp_tensors(base);
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const std::string& name) { return there.contains(name); })
             ? MtpLayers::Built
             : MtpLayers::LeftOut;
}

Result<std::vector<std::string>> modules_of(const checkpoint::HfModel& base, MtpLayers mtp,
                                            const Naming& names) {
  std::set<std::string> left_out(base.model.dropped.begin(), base.model.dropped.end());
  if (mtp == MtpLayers::LeftOut) {
    left_out.merge(mtp_tensors(base));
  }
  std::set<std::string> in_class;
  if (base.model.family != nullptr) {
    BV_TRY(model, class_model(base));
    for (const model::Mapping& mapping : model.mappings) {
      in_class.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  std::set<std::string> out;
  for (const auto& [name, spec] : base.headers) {
    const family::Family* family = base.model.family.get();
    const bool packed_away =
        expert_of(name) && !in_class.empty() && !in_class.contains(class_name(family, name));
    if (spec.shape.size() >= 2 && name.ends_with(".weight") && !packed_away &&
        !left_out.contains(name)) {
      out.insert(names.of(module_of(name)));
    }
  }
  if (const auto head = tied_head(base)) {
    out.insert(names.of(module_of(head->weight.name)));
  }
  return std::vector<std::string>(out.begin(), out.end());
}

Result<std::vector<std::string>> class_modules(const checkpoint::HfModel& base, MtpLayers mtp) {
  return modules_of(base, mtp, {base.model.family.get()});
}

std::set<std::string> not_linear(const checkpoint::HfModel& base, const Naming& names) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.rule->vocabulary || mapping.rule->megatron.find(".router.") != std::string::npos) {
      for (const std::string& name : mapping.hf) {
        out.insert(names.of(module_of(name)));
      }
    }
  }
  for (const auto& [name, spec] : base.headers) {
    if (spec.shape.size() != 2) {
      out.insert(names.of(module_of(name)));
    }
  }
  return out;
}

}  // namespace bv::lora
