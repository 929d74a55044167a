#include "core/convert/hf_side.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/config_edit.hpp"
#include "core/checkpoint/dequantise.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/convert/carried_index.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/torch_shard.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kRulesBytesMax = std::uint64_t{64} << 20;

/// Names of the HF tensors that the shards can give back: those of the rules, and stored copies of
/// them.
std::set<std::string> tensors_that_come_back(const model::Model& model) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : model.mappings) {
    out.insert(mapping.hf.begin(), mapping.hf.end());
  }
  for (const auto& [copy, original] : model.must_equal) {
    if (out.contains(original)) {
      out.insert(copy);
    }
  }
  return out;
}

/// The way back without an index lists the files of a folder, and their numbers must have no gap.
bool is_listed(const fs::path& folder) {
  const auto listing = io::list_folder(folder);
  const auto place = listing ? io::place_weights(*listing, folder) : listing.error();
  return place && place->form == io::WeightsForm::Listing;
}

Result<std::uint64_t> bytes_of(const Headers& headers) {
  std::uint64_t out = 0;
  for (const auto& [name, spec] : headers) {
    const auto elements = element_count(spec.shape);
    const auto all_bits = elements ? checked_mul(*elements, bits(spec.dtype)) : std::nullopt;
    if (!all_bits || __builtin_add_overflow(out, static_cast<std::uint64_t>(*all_bits) / 8, &out)) {
      return fail(Code::TensorSizeInvalid, fmt::format("{} is too large", io::in_quotes(name)))
          .advise("correct its shape");
    }
  }
  return out;
}

/// The index as it was, without the tensors that do not come back.
Result<std::string> index_without(const std::string& original, const Headers& back,
                                  const std::map<std::string, std::string>& file_of) {
  BV_TRY(total, bytes_of(back));
  try {
    auto json = nlohmann::ordered_json::parse(original);
    nlohmann::ordered_json kept = nlohmann::ordered_json::object();
    for (const auto& [tensor, file] : json.at("weight_map").items()) {
      if (back.contains(tensor)) {
        kept[tensor] = file;
      }
    }
    for (const auto& [tensor, file] : file_of) {
      if (back.contains(tensor) && !kept.contains(tensor)) {  // stored under another name
        kept[tensor] = file;
      }
    }
    json["weight_map"] = std::move(kept);
    json["metadata"]["total_size"] = total;
    return visible_json(json.dump(2)) + "\n";
  } catch (const std::exception& problem) {  // it was read before, but by another reader
    return cannot_write_index(problem);
  }
}

}  // namespace

checkpoint::MegatronFolder describe_hf_side(const checkpoint::HfModel& source,
                                            const parallel::Layout& layout,
                                            const plan::DtypePolicy& policy) {
  checkpoint::MegatronFolder out;
  out.layout = layout;
  out.dtype = policy;
  out.family = family::name(*source.base);
  out.resolve = source.resolve;
  out.settings = source.settings;
  const io::Checkpoint& checkpoint = *source.checkpoint;
  const std::set<std::string> back = tensors_that_come_back(source.model);
  const bool keep_empty = is_listed(source.folder);
  for (std::size_t i = 0; keep_empty && i < checkpoint.names().size(); ++i) {
    out.hf_metadata[io::safetensors_name(checkpoint.names()[i])] = checkpoint.metadata(i);
  }
  const auto add = [&](const TensorSpec& spec, std::size_t index) {
    out.hf_headers[spec.name] = spec;
    const std::string file = io::safetensors_name(checkpoint.names()[index]);
    out.hf_file_of[spec.name] = file;
    out.hf_metadata[file] = checkpoint.metadata(index);
  };
  std::set<std::string_view> dequantised;
  for (const checkpoint::Dequantised& one : source.dequantised) {
    dequantised.insert(one.stored.name);
    dequantised.insert(one.companions.begin(), one.companions.end());
  }
  for (const auto& [tensor, made] : checkpoint.made()) {
    if (back.contains(tensor)) {
      add(made.spec, checkpoint.tensors().find(made.stored)->second.file);
    } else {
      out.left_out.push_back(tensor);
    }
  }
  for (const auto& [tensor, stored] : checkpoint.tensors()) {
    if (dequantised.contains(tensor) || checkpoint.made().contains(tensor)) {
      continue;
    }
    if (!back.contains(tensor)) {
      out.left_out.push_back(tensor);
      continue;
    }
    add(stored.spec, stored.file);
  }
  std::sort(out.left_out.begin(), out.left_out.end());
  for (auto& [file, metadata] : out.hf_metadata) {
    metadata.try_emplace("format", "pt");  // transformers refuses a file that does not say it
  }
  return out;
}

namespace {

/// What quantisers write beside config.json. Source: ModelOpt (hf_quant_config.json), AutoGPTQ and
/// GPTQModel (quantize_config.json), AutoAWQ (quant_config.json), llm-compressor (recipe.yaml).
constexpr std::array<std::string_view, 4> kSaysQuantised = {
    "hf_quant_config.json", "quantize_config.json", "quant_config.json", "recipe.yaml"};

/// Servers read these files, and would take plain weights for quantised ones.
void leave_to_quantised(CarryPlan& plan) {
  std::vector<std::string> left;
  for (const std::string_view name : kSaysQuantised) {
    if (plan.files.erase(std::string(name)) > 0) {
      left.emplace_back(name);
    }
  }
  if (!left.empty()) {
    plan.notes.push_back(fmt::format(
        "{} {} of quantised weights, and {} not go along with plain ones", join(left, " and "),
        left.size() == 1 ? "tells" : "tell", left.size() == 1 ? "does" : "do"));
  }
}

}  // namespace

Result<CarryPlan> plan_hf_side(const checkpoint::HfModel& source,
                               const checkpoint::MegatronFolder& description, bool follow_links) {
  const auto& names = source.checkpoint->names();
  for (const std::string& name : names) {
    if (const std::string_view wrong = checkpoint::path_fault(name); !wrong.empty()) {
      return fail(Code::UnsafePath,
                  fmt::format("the weights file {} {}", io::in_quotes(name), wrong))
          .at(io::printable_path(source.folder))
          .pair(io::in_quotes(name), "a plain relative name in UTF-8")
          .advise("rename the file; an index that names it must be changed with it");
    }
  }
  BV_TRY(carried, plan_carry(source.folder, {names.begin(), names.end()}, follow_links));
  BV_TRY(config, checkpoint::carried_config(source, source.config_text));
  carried.files["config.json"] = {source.folder / "config.json", std::move(config)};
  BV_TRY(index, carried_index(carried, source.folder));
  const auto& made = source.checkpoint->made();
  const bool adds = std::any_of(made.begin(), made.end(), [&](const auto& one) {
    return !source.checkpoint->tensors().contains(one.first);
  });
  if (!source.dequantised.empty()) {
    leave_to_quantised(carried);
  }
  if (index != nullptr && (adds || !description.left_out.empty() || !source.dequantised.empty())) {
    BV_TRY(text, text_of(*index));
    BV_TRY(changed, index_without(text, description.hf_headers, description.hf_file_of));
    index->text = std::move(changed);
  }
  return std::move(carried);
}

Result<CarryPlan> plan_quantised_side(const checkpoint::HfModel& source,
                                      const checkpoint::MegatronFolder& description,
                                      const checkpoint::QuantisedSide& side, bool follow_links) {
  CarryPlan out;
  BV_TRY(config, checkpoint::carried_config(source, source.quantised_config));
  out.files["config.json"] = {source.folder / "config.json", std::move(config)};
  const auto& names = source.checkpoint->names();
  BV_TRY(all, plan_carry(source.folder, {names.begin(), names.end()}, follow_links));
  for (const std::string_view name : kSaysQuantised) {
    if (const auto found = all.files.find(std::string(name)); found != all.files.end()) {
      out.files.insert(*found);
    }
  }
  BV_TRY(index, carried_index(all, source.folder));
  if (index == nullptr) {
    return out;
  }
  const auto entry = std::find_if(all.files.begin(), all.files.end(),
                                  [&](const auto& one) { return &one.second == index; });
  BV_TRY(text, text_of(*index));
  const bool leaves_out = std::ranges::any_of(description.left_out, [&](const std::string& name) {
    return !side.headers.contains(name);
  });
  if (leaves_out) {
    checkpoint::MegatronFolder plain = description;
    plain.quantised = side;
    auto file_of = description.hf_file_of;
    file_of.insert(side.file_of.begin(), side.file_of.end());
    BV_TRY(changed,
           index_without(text, checkpoint::restored_headers(plain, source.dequantised), file_of));
    text = std::move(changed);
  }
  out.files[entry->first] = {index->from, std::move(text)};
  return out;
}

Result<io::FilePrint> copy_rules(const fs::path& rules, const fs::path& folder) {
  BV_TRY(text, io::read_file(rules, kRulesBytesMax, Code::RulesInvalid));
  BV_CHECK(io::write_file(folder / checkpoint::kRulesName, text));
  return io::print_of_text(text);
}

void tell_left_out(const checkpoint::HfModel& source, const checkpoint::MegatronFolder& description,
                   std::vector<std::string>& notes) {
  std::set<std::string> dropped(source.model.dropped.begin(), source.model.dropped.end());
  dropped.insert(source.excluded.begin(), source.excluded.end());
  if (description.quantised) {
    for (const auto& [tensor, file] : description.quantised->file_of) {
      dropped.insert(tensor);
    }
  }
  std::map<std::string, std::vector<std::string>> rest;
  for (const std::string& name : description.left_out) {
    if (!dropped.contains(name)) {
      rest[source.model.why_unused(name)].push_back(io::in_quotes(name));
    }
  }
  for (const auto& [because, names] : rest) {
    notes.push_back(fmt::format(
        "{} left out, and not in what comes back: {}{}",
        names.size() == 1 ? "1 tensor that no rule reads is"
                          : thousands(std::ssize(names)) + " tensors that no rule reads are",
        join(io::first_lines(names, 2), ", "),
        because.empty() ? "" : fmt::format(" ({})", because)));
  }
}

}  // namespace bv::convert
