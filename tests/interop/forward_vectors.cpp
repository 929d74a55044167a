// Computes checkpoints in their HF form and compares the logits with those that lie beside them:
// what tests/interop/forward_forms_test.py asks about what the real transformers computed.
//
//   bv_forward_vectors FOLDER ...     config.json, model*.safetensors, forward.safetensors
//
// One line a folder: FOLDER, then the largest difference, or a code and a message; then, behind a
// tab, the tensors that nothing computed with.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>

#include "core/base/text.hpp"
#include "tests/oracles/forward/golden.hpp"

namespace bv::oracle::forward {
namespace {

NamedTensors checkpoint_in(const std::string& folder) {
  NamedTensors out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with("model") && file.ends_with(".safetensors"))
      out.merge(golden::read_file(entry.path().string()));
  }
  return out;
}

std::string refused(const Error& error) {
  return fmt::format("{} {}: {}, wanted {}", label(error.code), error.message, error.found,
                     error.wanted);
}

std::string answer(const std::string& folder) {
  const auto facts = read_facts(golden::read_text(folder + "/config.json"));
  if (!facts) return refused(facts.error());
  const NamedTensors vectors = golden::read_file(folder + "/forward.safetensors");
  const auto found = hf_forward(*facts, checkpoint_in(folder), golden::text_inputs(vectors));
  if (!found) return refused(found.error());
  const Tensor wanted = golden::squeezed(vectors.at("logits"), 2);
  return fmt::format("{:.3e}\t{}", largest_difference(found->logits, wanted),
                     join(found->unread, " "));
}

}  // namespace
}  // namespace bv::oracle::forward

int main(int count, char** words) {
  for (int i = 1; i < count; ++i) {
    std::cout << words[i] << " " << bv::oracle::forward::answer(words[i]) << std::endl;
  }
  return 0;
}
