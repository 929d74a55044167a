#include "core/io/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "core/base/text.hpp"
#include "core/io/checkpoint_parts.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/pickle/strided.hpp"

namespace bv::io {

struct Checkpoint::State {
  State(CheckpointParts&& loaded, std::filesystem::path from)
      : parts(std::move(loaded)), path(std::move(from)) {
    for (const auto& [name, stored] : parts.tensors) {
      if (!stored.strides.empty()) {
        const auto file = parts.shards[stored.file].mapping.bytes();
        strided.try_emplace(name, file.subspan(stored.begin, stored.end - stored.begin),
                            bv::bytes(stored.spec.dtype), stored.spec.shape, stored.strides);
      }
    }
  }
  CheckpointParts parts;
  std::filesystem::path path;
  std::map<std::string, MadeTensor, std::less<>> made;
  std::map<std::string, pickle::StridedElements, std::less<>> strided;
  DescriptorCache descriptors{kOpenFilesMax};
};

Error warning_of(const FormatFinding& finding) {
  BV_ASSERT(finding.warning.has_value());
  Error out = fail(*finding.warning, finding.what).at(finding.file).advise(finding.help);
  out.facts = finding.facts;
  return out;
}

Status refuse_findings(std::span<const FormatFinding> findings) {
  const auto refused = [](const FormatFinding& finding) { return finding.refused_when_strict; };
  const auto first = std::find_if(findings.begin(), findings.end(), refused);
  if (first == findings.end()) {
    return Done{};
  }
  Error error = fail(first->code, fmt::format("{}: {}", first->file, first->what)).at(first->file);
  error.facts = first->facts;
  const auto count = std::count_if(findings.begin(), findings.end(), refused);
  if (count > 1) {
    error.facts.push_back(
        fmt::format("and {}", counted(static_cast<std::uint64_t>(count - 1), "further finding")));
  }
  error.facts.emplace_back("the reference reader accepts this, a strict one does not");
  error.help = first->help.empty() ? "write the file again, or leave --strict out" : first->help;
  return error;
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open_partial(const std::filesystem::path& path, bool strict) {
  BV_TRY(parts, load_parts(path));
  if (strict) {
    BV_CHECK(refuse_findings(parts.findings));
  }
  return Checkpoint(std::make_unique<State>(std::move(parts), path));
}

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& path, bool strict) {
  BV_TRY(checkpoint, open_partial(path, strict));
  if (!checkpoint.missing().empty()) {
    return checkpoint.missing_error();
  }
  return std::move(checkpoint);
}

Error Checkpoint::missing_error() const {
  BV_ASSERT(!missing().empty());
  return missing_shards_error(state_->parts, state_->path);
}

const std::vector<std::filesystem::path>& Checkpoint::files() const {
  return state_->parts.files;
}
const std::vector<std::string>& Checkpoint::names() const {
  return state_->parts.names;
}
const std::map<std::string, StoredTensor, std::less<>>& Checkpoint::tensors() const {
  return state_->parts.tensors;
}
const std::vector<FormatFinding>& Checkpoint::findings() const {
  return state_->parts.findings;
}
const std::vector<MissingShard>& Checkpoint::missing() const {
  return state_->parts.missing;
}
std::uint64_t Checkpoint::total_bytes() const {
  return state_->parts.total_bytes;
}

void Checkpoint::for_each(const std::function<void(const TensorSpec&)>& visit) const {
  for (const auto& [name, stored] : tensors()) {
    visit(stored.spec);
  }
}

Headers Checkpoint::headers() const {
  Headers out;
  for (const auto& [name, tensor] : tensors()) {
    out.emplace_hint(out.end(), name, tensor.spec);
  }
  return out;
}

const std::map<std::string, std::string>& Checkpoint::metadata(std::size_t file) const {
  BV_ASSERT(file < state_->parts.shards.size());
  return state_->parts.shards[file].metadata;
}

std::uint64_t Checkpoint::data_begin(std::size_t file) const {
  BV_ASSERT(file < state_->parts.shards.size());
  return state_->parts.shards[file].data_begin;
}

std::span<const std::byte> Checkpoint::bytes(const StoredTensor& tensor) const {
  BV_ASSERT(tensor.file < state_->parts.shards.size());
  const std::span<const std::byte> file = state_->parts.shards[tensor.file].mapping.bytes();
  BV_ASSERT(tensor.begin <= tensor.end && tensor.end <= file.size());
  return file.subspan(tensor.begin, tensor.end - tensor.begin);
}

const ElementMaker* Checkpoint::maker(const StoredTensor& tensor) const {
  const auto found =
      tensor.strides.empty() ? state_->strided.end() : state_->strided.find(tensor.spec.name);
  return found == state_->strided.end() ? nullptr : &found->second;
}

Status Checkpoint::read(const StoredTensor& tensor, std::uint64_t offset,
                        std::span<std::byte> out) const {
  BV_ASSERT(tensor.file < state_->parts.shards.size());
  BV_ASSERT(tensor.begin <= tensor.end && offset <= tensor.end - tensor.begin);
  BV_ASSERT(out.size() <= tensor.end - tensor.begin - offset);
  const std::filesystem::path& path = state_->parts.files[tensor.file];
  BV_TRY(descriptor,
         state_->descriptors.get(tensor.file, path, state_->parts.shards[tensor.file].stamp));
  return read_exactly(*descriptor, tensor.begin + offset, out, path);
}

void Checkpoint::release(std::span<const std::byte> range) const {
  for (const ShardFile& shard : state_->parts.shards) {
    shard.mapping.release(range);
  }
}

void Checkpoint::add_made(MadeTensor tensor) {
  BV_ASSERT(tensors().contains(tensor.stored) && tensor.maker != nullptr);
  std::string name = tensor.spec.name;
  state_->made.insert_or_assign(std::move(name), std::move(tensor));
}

const std::map<std::string, MadeTensor, std::less<>>& Checkpoint::made() const {
  return state_->made;
}

const TensorSpec* Checkpoint::find(std::string_view tensor) const {
  if (const auto made = state_->made.find(tensor); made != state_->made.end()) {
    return &made->second.spec;
  }
  const auto found = tensors().find(tensor);
  return found == tensors().end() ? nullptr : &found->second.spec;
}

std::vector<Chunk> Checkpoint::chunks(const TensorSpec& tensor) const {
  if (const auto made = state_->made.find(tensor.name); made != state_->made.end()) {
    const StoredTensor& stored = tensors().find(made->second.stored)->second;
    return {{Shape(tensor.shape.size(), 0), tensor.shape, bytes(stored), made->second.maker.get()}};
  }
  const auto found = tensors().find(tensor.name);
  BV_ASSERT(found != tensors().end());
  return {
      {Shape(tensor.shape.size(), 0), tensor.shape, bytes(found->second), maker(found->second)}};
}

Status Checkpoint::unchanged() const {
  for (std::size_t i = 0; i < state_->parts.files.size(); ++i) {
    BV_CHECK(check_unchanged(state_->parts.files[i], state_->parts.shards[i].stamp));
  }
  for (const auto& [name, made] : state_->made) {
    BV_CHECK(made.maker->unchanged());
  }
  return Done{};
}

}  // namespace bv::io
