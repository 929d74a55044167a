#pragma once
// Adapters of the real PEFT, changed before they are read, and what is seen of it.

#include <fstream>
#include <map>
#include <set>

#include "core/lora/adapter_keys.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_compare.hpp"
#include "tests/core/lora/megatron_case.hpp"

namespace bv::lora {

/// An adapter whose tensors can be changed before it is read.
class EditedAdapter {
 public:
  explicit EditedAdapter(const std::string& name)
      : base(golden::open_base(golden::kGolden / "peft" / name / "base")),
        file_(golden::adapter_file(name)) {
    std::ifstream in(golden::kGolden / "peft" / name / "adapter" / kAdapterConfigName);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    config = parse_adapter_config(text, "adapter_config.json").value();
    for (const auto& [key, stored] : file_.tensors()) {
      const auto bytes = file_.bytes(stored);
      tensors[key.substr(kPeftPrefix.size())] = {
          stored.spec.shape, {bytes.begin(), bytes.end()}, stored.spec.dtype};
    }
  }

  struct Stored {
    Shape shape;
    std::vector<std::byte> bytes;
    DType dtype = DType::F32;
    float* row(std::int64_t i) { return reinterpret_cast<float*>(bytes.data()) + i * shape.back(); }
  };
  Adapter read() const {
    std::vector<AdapterTensor> list;
    for (const auto& [key, one] : tensors) {
      list.push_back(
          {{{std::string(kPeftPrefix) + key, one.dtype, one.shape}, 0, 0, one.bytes.size()},
           one.bytes});
    }
    auto out = fit_adapter(config, std::move(list), base, golden::kinds_of_build(), "adapter");
    EXPECT_TRUE(out) << (out ? "" : out.error().message);
    return out ? std::move(*out) : Adapter{};
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = tensors.extract(from);
    ASSERT_FALSE(node.empty()) << from;
    node.key() = to;
    tensors.insert(std::move(node));
  }

  checkpoint::HfModel base;
  AdapterConfig config;
  std::map<std::string, Stored> tensors;

 private:
  io::Checkpoint file_;
};

/// Codes of the refuted verdicts: of the keys, else of a comparison with the untouched twin.
inline std::set<std::string> seen(const EditedAdapter& edited, const std::string& name) {
  const Adapter adapter = edited.read();
  std::set<std::string> out;
  for (const AdapterFault& fault : adapter.faults) {
    out.insert(std::string(info(fault.code).name));
  }
  if (!out.empty()) {
    return out;
  }
  const EditedAdapter twin(name);
  for (const Verdict& verdict : claims::compare_adapters(adapter, twin.read())) {
    if (verdict.outcome == Outcome::Refuted) {
      out.insert(std::string(info(verdict.code).name));
    }
  }
  return out;
}
using Codes = std::set<std::string>;

inline Codes codes_of(const std::vector<Verdict>& verdicts) {
  Codes out;
  for (const Verdict& verdict : verdicts) {
    if (verdict.outcome == Outcome::Refuted) {
      out.insert(std::string(info(verdict.code).name));
    }
  }
  return out;
}

}  // namespace bv::lora
