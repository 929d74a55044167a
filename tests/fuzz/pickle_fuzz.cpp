// libFuzzer entry for pickles of weights (tests/fuzz/run.sh), in an archive whose checksums fit and
// that has storages of 16, 64 and 256 bytes. Properties: every pickle is answered, without running
// anything, with values bounded by its bytes; tensors of an accepted one lie in their storages.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/assert.hpp"
#include "core/pickle/archive_writer.hpp"
#include "core/pickle/state_dict.hpp"

namespace {

using bv::pickle::TorchFile;

/// Every way to ask a value for what it is.
void ask_all(const bv::pickle::Pickle& pickle) {
  std::size_t known = 0;
  for (bv::pickle::Id id = 0; id < pickle.size(); ++id) {
    known += pickle.global(id).size() + pickle.callee(id).size() + pickle.items(id).size() +
             pickle.states(id).size();
    known += pickle.numbers(id) ? pickle.numbers(id)->size() : 0;
    known += pickle.get(id, "model").has_value() || pickle.attribute(id, "args").has_value() ||
             pickle.arguments(id).has_value() || pickle.persistent(id).has_value();
    BV_ASSERT(!pickle.number(id) || pickle.kind(id) == bv::pickle::Kind::Int ||
              pickle.kind(id) == bv::pickle::Kind::Bool);
  }
  asm volatile("" : : "r"(known));  // what was read must not be optimised away
}

void check_dict(const TorchFile& file, std::string_view key) {
  const auto dict = bv::pickle::state_dict_of(file, key);
  if (!dict) {
    BV_ASSERT(!dict.error().message.empty() && !dict.error().help.empty());
    return;
  }
  for (const auto& [name, tensor] : dict->tensors) {
    BV_ASSERT(tensor.record->name.starts_with("data/") && tensor.begin <= tensor.end &&
              tensor.begin >= tensor.record->begin &&
              tensor.end <= tensor.record->begin + tensor.record->size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string archive = bv::pickle::object_archive(
      "a", {reinterpret_cast<const char*>(data), size},
      {std::string(16, '\1'), std::string(64, '\2'), std::string(256, '\3')});
  const auto file = bv::pickle::open_torch_file(std::as_bytes(std::span(archive)), "fuzz");
  if (!file) {
    BV_ASSERT(!file.error().message.empty() && !file.error().help.empty());
    return 0;
  }
  BV_ASSERT(file->pickle.size() <= 2 * size + 8);
  ask_all(file->pickle);
  check_dict(*file, "");
  check_dict(*file, "model");
  return 0;
}
