#include "core/model/mtp.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/model/conditions.hpp"
#include "core/model/name_gaps.hpp"

namespace bv::model {
namespace {

/// What the names of MTP layers start with: "model.layers." and the number num_hidden_layers + k.
struct OwnedNames {
  std::string start;
  std::string number;  // expression; "" when all names start with `start`
};

OwnedNames owned_names(const std::string& owned, const Model& model) {
  OwnedNames out;
  out.start = family::root_of(*model.family, owned).empty() ? model.prefixes.at("") : "";
  const auto pieces = family::split_template(owned);
  BV_ASSERT(pieces.has_value());  // check_family has split it before
  for (const family::TemplatePiece& piece : *pieces) {
    const auto prefix = model.prefixes.find(piece.text);
    if (piece.braces && prefix == model.prefixes.end()) {
      out.number = piece.text;
      break;
    }
    out.start += piece.braces ? prefix->second : piece.text;
  }
  return out;
}

/// The number in the names of layer `k`.
std::int64_t number_of_layer(const OwnedNames& owned, const family::Section& section,
                             const Model& model, std::int64_t k) {
  const auto number = family::evaluate_with(
      owned.number, [&](std::string_view word) -> std::optional<std::int64_t> {
        return word == section.variable ? k : model.geometry.get(word);
      });
  return number ? *number : -1;
}

void add_names(const Headers& headers, const std::string& start, std::vector<std::string>& out) {
  for (auto at = headers.lower_bound(start); at != headers.end() && at->first.starts_with(start);
       ++at) {
    out.push_back(at->first);
  }
}

std::string layers_text(std::int64_t count) {
  return counted(count, "MTP layer");
}

/// The first MTP layer stands where the config does not put it: decoder layers are miscounted.
NameFault misplaced(const OwnedNames& owned, const family::Section& section, const Model& model,
                    const MtpThere& there) {
  const std::string says = join(fields_behind(*model.family, model.geometry, owned.number), ", ");
  const std::string field = field_of(*model.family, model.geometry, owned.number);
  const std::int64_t found = number_of_layer(owned, section, model, *there.layers.begin());
  const std::int64_t wanted = number_of_layer(owned, section, model, 0);
  NameFault fault;
  fault.code = Code::HfTensorUnused;
  fault.subject = escaped(there.names.front());
  fault.subjects = there.names;
  fault.message =
      fmt::format("the first MTP layer of the checkpoint is {}{}, after {}, but config.json has {}",
                  escaped(owned.start), found, counted(found, "decoder layer"), says);
  fault.found = fmt::format("{}{}.*, an MTP layer", escaped(owned.start), found);
  fault.wanted = fmt::format("{}{}.*, by {}", escaped(owned.start), wanted, says);
  fault.help = fmt::format(
      "if the model has {}, say so: --set {}={}; else use the files that belong to this "
      "config.json",
      counted(found, "decoder layer"), field, found);
  return fault;
}

}  // namespace

MtpThere find_mtp(const family::Section& section, const Model& model, const NameSpots& spots,
                  const Headers& headers) {
  MtpThere out;
  for (const std::string& text : section.owns) {
    const OwnedNames owned = owned_names(text, model);
    for (auto at = headers.lower_bound(owned.start);
         at != headers.end() && at->first.starts_with(owned.start); ++at) {
      const auto places = spots.find(at->first);
      const bool own =
          !places.empty() && std::all_of(places.begin(), places.end(), [&](const NameSpot& spot) {
            return spot.section->stage == family::Stage::Mtp;
          });
      if (own && places.front().numbered) {
        out.layers.insert(places.front().index);
      }
    }
    if (owned.number.empty()) {
      add_names(headers, owned.start, out.names);
      continue;
    }
    for (const std::int64_t k : out.layers) {
      add_names(headers,
                fmt::format("{}{}.", owned.start, number_of_layer(owned, section, model, k)),
                out.names);
    }
  }
  return out;
}

std::optional<NameFault> mtp_fault(const family::Section& section, const Model& model,
                                   const MtpThere& there, std::int64_t count) {
  const std::string says = join(fields_behind(*model.family, model.geometry, section.over), ", ");
  const std::string field = field_of(*model.family, model.geometry, section.over);
  if (there.empty() && count == 0) {
    return std::nullopt;
  }
  NameFault fault;
  fault.wanted = fmt::format("{}: {}", layers_text(count), says);
  if (there.empty()) {
    fault.code = Code::HfTensorMissing;
    fault.subject =
        section.owns.empty() ? section.title : owned_names(section.owns.front(), model).start + "*";
    fault.message = fmt::format(
        "config.json counts {} ({}), but the checkpoint holds no tensor of one: Megatron "
        "parameters "
        "mtp.* would keep their initial values",
        layers_text(count), says);
    fault.found = "no tensor of an MTP layer";
    fault.help = fmt::format(
        "leave the MTP layer out: --drop-mtp, or --set {}=0 (transformers does not save it)",
        field);
    return fault;
  }
  if (!there.layers.empty() && *there.layers.begin() != 0) {
    return misplaced(owned_names(section.owns.front(), model), section, model, there);
  }
  const auto found = std::max<std::int64_t>(1, static_cast<std::int64_t>(there.layers.size()));
  if (found == count) {
    return std::nullopt;
  }
  fault.code = found > count ? Code::HfTensorUnused : Code::HfTensorMissing;
  fault.subject = escaped(there.names.front());
  fault.subjects = there.names;
  fault.message = fmt::format("the checkpoint holds {} ({}), but config.json counts {} ({})",
                              layers_text(found), tensors_text(there.names), count, says);
  fault.found = layers_text(found);
  fault.help =
      fmt::format("say so: --set {}={}, or leave the MTP layers out with --drop-mtp", field, found);
  return fault;
}

void count_no_mtp(Model& model) {
  for (const family::Ignored& one : model.family->ignore_hf) {
    const auto count = model.geometry.symbols.find(one.mtp);
    if (count != model.geometry.symbols.end() && count->second > 0) {
      model.detected.push_back({"mtp", "dropped", "--drop-mtp"});
      count->second = 0;
      model.geometry.origin[count->first] = "--drop-mtp";
    }
  }
}

std::int64_t mtp_layer_number(const family::Section& section, const Model& model, std::int64_t k) {
  for (const std::string& text : section.owns) {
    const OwnedNames owned = owned_names(text, model);
    if (!owned.number.empty()) {
      return number_of_layer(owned, section, model, k);
    }
  }
  return -1;
}

}  // namespace bv::model
