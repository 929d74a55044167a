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

std::string Naming::of_whole(std::string name) const {
  return text ? text->to_own(name) : name;
}

std::string Naming::of(std::string_view in_file) const {
  return of_whole(joined_module(family, class_name(family, in_file)));
}

std::optional<TextClass> text_class_of(const checkpoint::HfModel& base,
                                       const std::vector<std::string>& paths) {
  auto text = text_class(base.model, head_name(base));
  std::set<std::string> beginnings;  // "model.layers.", "lm_head."
  for (const std::string& path : paths) {
    const auto whole = text ? text->to_whole(path) : std::nullopt;
    if (whole && *whole != path) {
      const std::size_t first = std::min(path.find('.'), path.size());
      beginnings.insert(path.substr(0, path.find('.', std::min(first + 1, path.size()))) + ".");
    }
  }
  for (const auto& [name, spec] : base.headers) {
    if (beginnings.empty()) {
      return std::nullopt;
    }
    const std::string in_class = class_name(base.model.family.get(), name);
    std::erase_if(beginnings, [&, &stored = name](const std::string& one) {
      return stored.starts_with(one) || in_class.starts_with(one);
    });
  }
  return beginnings.empty() ? std::nullopt : std::move(text);
}

bool is_of_text_class(const Adapter& adapter, const model::Model& model) {
  const auto text = text_class(model, "lm_head.weight");
  return text && std::any_of(adapter.pairs.begin(), adapter.pairs.end(), [&](const auto& pair) {
           std::string why;
           const auto key = parse_adapter_key(pair.b.key(), why);
           const std::string in_class = class_name(model.family.get(), pair.base);
           return key &&
                  text->to_own(in_class).starts_with(key->path.substr(0, key->path.find('.'))) &&
                  !in_class.starts_with(key->path) && !pair.base.starts_with(key->path) &&
                  text->to_own(key->path).empty();
         });
}

Naming naming_of(const Adapter& adapter, const checkpoint::HfModel& base) {
  const family::Family* family = base.model.family.get();
  const Naming names_of_class{family};
  std::vector<std::string> paths;
  for (const AdapterPair& pair : adapter.pairs) {
    std::string why;
    if (auto key = parse_adapter_key(pair.b.key(), why)) {
      paths.push_back(std::move(key->path));
    }
  }
  if (auto text = text_class_of(base, paths)) {
    return {family, std::move(text)};
  }
  const bool of_files = std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
    return names_of_class.of(path) != path;
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
  out.erase("");
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
  if (const auto head = tied_head(base)) {
    out.insert(names.of(module_of(head->weight.name)));
  }
  for (const auto& [name, spec] : base.headers) {
    if (spec.shape.size() != 2) {
      out.insert(names.of(module_of(name)));
    }
  }
  return out;
}

}  // namespace bv::lora
