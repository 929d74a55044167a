#include "core/convert/kept_form.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/convert/hf_side.hpp"
#include "core/convert/value_losses.hpp"
#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/torch_shard.hpp"
#include "core/kinds/requantise.hpp"

namespace bv::convert {
namespace {

constexpr std::int64_t kLookBytes = std::int64_t{8} << 20;

/// One stored tensor of the quantised form, in the file that it came from.
void place(const checkpoint::HfModel& source, const std::string& tensor,
           checkpoint::QuantisedSide& side) {
  const io::Checkpoint& checkpoint = *source.checkpoint;
  const io::StoredTensor& stored = checkpoint.tensors().find(tensor)->second;
  const std::string file = io::safetensors_name(checkpoint.names()[stored.file]);
  side.headers[tensor] = stored.spec;
  side.file_of[tensor] = file;
  side.metadata[file] = checkpoint.metadata(stored.file);
  side.metadata[file].try_emplace("format", "pt");
}

void add_companion(const checkpoint::HfModel& source, const std::string& tensor, KeptForm& out) {
  if (!out.side.headers.contains(tensor)) {
    place(source, tensor, out.side);
    out.companions.tensors.push_back(as_stored(*source.checkpoint, out.side.headers.at(tensor)));
  }
}

/// Fingerprint of the values, and how many codes cannot be told from what they stand for.
struct Looked {
  std::string digest;
  std::int64_t ambiguous = 0;
};

Looked look_at(const io::Checkpoint& checkpoint, const checkpoint::Dequantised& weight) {
  const auto values = checkpoint.bytes(checkpoint.tensors().find(weight.stored.name)->second);
  const auto scales = checkpoint.bytes(checkpoint.tensors().find(weight.scale.name)->second);
  const kinds::Requantiser codes(weight.form, scales, weight.weight.dtype);
  const std::int64_t line = std::max<std::int64_t>(codes.line_bytes(), 1);
  const std::int64_t step = std::max<std::int64_t>(kLookBytes / line, 1);
  io::Digest hash;
  Looked out;
  for (std::int64_t begin = 0; begin < codes.lines(); begin += step) {
    const std::int64_t end = std::min(codes.lines(), begin + step);
    const auto piece = values.subspan(static_cast<std::size_t>(begin * line),
                                      static_cast<std::size_t>((end - begin) * line));
    hash.add(piece);
    out.ambiguous += codes.ambiguous(begin, end, values);
    checkpoint.release(piece);
  }
  out.digest = hash.hex();
  return out;
}

std::string kept_note(const KeptForm& form, const std::vector<Looked>& looked) {
  std::int64_t elements = 0;
  std::int64_t weights = 0;
  const checkpoint::Dequantised* first = nullptr;
  for (std::size_t i = 0; i < looked.size(); ++i) {
    if (looked[i].ambiguous > 0) {
      first = first == nullptr ? form.weights[i] : first;
      elements += looked[i].ambiguous;
      ++weights;
    }
  }
  const std::string beside = form.beside == 0
                                 ? ""
                                 : fmt::format(", with {} that the shards cannot give back",
                                               counted(form.beside, "other tensor"));
  const std::string kept =
      fmt::format("the quantised form of {} is kept in {}/{}",
                  counted(form.weights.size(), "weight"), checkpoint::kQuantisedFolder, beside);
  return first == nullptr
             ? kept + ": convert --to hf gives it back"
             : fmt::format(
                   "{}, but {} of {} cannot be told from their values (a scale of 0, a "
                   "NaN): {}{}; convert --to hf --quantised plain gives the plain weights",
                   kept, counted(elements, "code"), counted(weights, "weight"),
                   io::printable(first->weight.name), weights > 1 ? ", ..." : "");
}

}  // namespace

OutputTensor as_stored(const io::TensorStore& store, const TensorSpec& spec, std::int64_t granule) {
  OutputTensor out;
  out.spec = spec;
  out.sources = {{&store, store.find(spec.name)}};
  out.granule = granule;
  out.boxes = [elements = element_count(spec.shape).value()] {
    layout::Box all;
    all.axes = {{elements, 1, 1}};
    layout::normalise(all);
    return std::vector{std::move(all)};
  };
  return out;
}

Result<std::optional<KeptForm>> keep_form(const checkpoint::HfModel& source,
                                          const checkpoint::MegatronFolder& description,
                                          const plan::DtypePolicy& policy, int jobs,
                                          bool follow_links) {
  KeptForm out;
  out.side.metadata = description.hf_metadata;
  for (const checkpoint::Dequantised& one : source.dequantised) {
    if (description.hf_headers.contains(one.weight.name)) {
      out.weights.push_back(&one);
      place(source, one.stored.name, out.side);
    }
  }
  if (out.weights.empty()) {
    return std::optional<KeptForm>();
  }
  out.companions.name = checkpoint::kCompanionsName;
  out.companions.metadata = {{"format", "pt"}};
  for (const checkpoint::Dequantised* one : out.weights) {
    for (const std::string& companion : one->companions) {  // two weights may share one
      add_companion(source, companion, out);
    }
  }
  const std::size_t of_weights = out.side.headers.size();
  for (const std::string& name : source.model.ignored) {
    if (!description.hf_headers.contains(name)) {
      add_companion(source, name, out);
    }
  }
  BV_TRY(losses, find_losses(source, policy, jobs));
  for (const ValueLoss& one : losses) {
    const bool is_weight = std::ranges::any_of(
        out.weights, [&](const auto* weight) { return weight->weight.name == one.hf; });
    if (!is_weight && description.hf_headers.contains(one.hf)) {
      add_companion(source, one.hf, out);
    }
  }
  out.beside = out.side.headers.size() - of_weights;
  BV_TRY(carried, plan_quantised_side(source, description, out.side, follow_links));
  out.carried = std::move(carried);
  return std::optional(std::move(out));
}

Status seal(const checkpoint::HfModel& source, std::map<std::string, std::string> companions,
            std::map<std::string, io::FilePrint> carried, int jobs, ProgressSink* progress,
            KeptForm& form, std::vector<std::string>& notes) {
  const io::Checkpoint& checkpoint = *source.checkpoint;
  std::uint64_t bytes = 0;
  for (const checkpoint::Dequantised* one : form.weights) {
    bytes += tensor_bytes(one->stored);
  }
  if (progress != nullptr) {
    progress->start("fingerprints", bytes, form.weights.size());
  }
  std::vector<Looked> looked(form.weights.size());
  BV_CHECK(for_each_parallel(form.weights.size(), jobs, [&](std::size_t i) -> Status {
    looked[i] = look_at(checkpoint, *form.weights[i]);
    if (progress != nullptr) {
      progress->advance(tensor_bytes(form.weights[i]->stored), 1, form.weights[i]->stored.name);
      if (progress->stop_requested()) {
        return fail(Code::Stopped, "stopped before the end")
            .advise("repeat with --resume to keep the finished files");
      }
    }
    return Done{};
  }));
  BV_CHECK(checkpoint.unchanged());
  form.side.digests = std::move(companions);
  for (std::size_t i = 0; i < looked.size(); ++i) {
    form.side.digests[form.weights[i]->stored.name] = looked[i].digest;
  }
  form.side.carried = std::move(carried);
  notes.push_back(kept_note(form, looked));
  return Done{};
}

}  // namespace bv::convert
