#pragma once
// What the properties over random worlds share: the worlds of a seed, and what is left of a bridge.

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "oracles/forward/forward.hpp"
#include "properties/attacks/fuzz/fuzz.hpp"
#include "properties/attacks/mutants/gate.hpp"
#include "properties/attacks/mutants/mutant.hpp"

namespace bv::fuzz {

inline const Tools& tools() {
  static const oracle::forward::Functions forward = {
      oracle::forward::read_facts, oracle::forward::hf_forward, oracle::forward::megatron_forward,
      oracle::forward::probe_inputs};
  static const Tools value = {
      mutants::load_library().value(), mutants::builtin_samples().value(), {.forward = &forward}};
  return value;
}

inline std::string said(const std::vector<mutants::Finding>& findings) {
  return findings.empty() ? "" : findings.front().claim + ": " + findings.front().title;
}

inline Prepared prepared(std::uint64_t seed) {
  auto out = prepare(tools(), draw_from(seed));
  EXPECT_TRUE(out) << "seed " << seed << ": " << out.error().message;
  return std::move(*out);
}

inline mutants::Reference reference(const Prepared& world) {
  return mutants::Reference::make(tools().library, world.model, world.world.layout, tools().oracle)
      .value();
}

/// What is left of a bridge with this fault, or nullopt where it hits nothing.
inline std::optional<std::vector<mutants::Finding>> judged(const Prepared& world,
                                                           const mutants::Mutant& mutant) {
  const mutants::Reference ref = reference(world);
  const auto attack = mutants::apply(tools().library, *world.model, ref.right(), mutant);
  return attack ? std::optional(ref.judge(*attack)) : std::nullopt;
}

inline bool has(const std::vector<mutants::Finding>& findings, std::string_view claim) {
  return std::any_of(findings.begin(), findings.end(),
                     [&](const mutants::Finding& one) { return one.claim == claim; });
}

/// The checkpoint that comes back from a layout, `change` made to the way there.
inline mutants::Tensors exported(const mutants::Case& one, const parallel::Layout& layout,
                                 const std::function<void(mutants::Program&)>& change) {
  const auto right = mutants::compile(one.model, tools().library.kinds, layout).value();
  mutants::Program there = right;
  if (change) {
    change(there);
  }
  mutants::Tensors hf = mutants::random_weights(one.headers, 0.5, 11);
  const auto image = mutants::run_import(right, there, hf, [](mutants::Tensor& tensor, auto&) {
    std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0xA5});
  });
  return mutants::run_export(right, image, one.headers, std::byte{0x5A}).tensors;
}

/// The same model on other sizes: every pipeline of one stage, TP, EP and ETP drawn again.
inline parallel::Layout other_layout(const Prepared& world, std::uint64_t seed) {
  generators::Random random(seed);
  generators::Layout draw = generators::draw(generators::layout_fields(), random);
  draw.pp = draw.vpp = 1;
  draw.split = 0;
  return generators::layout_of(draw, world.model->model, 24).value();
}

}  // namespace bv::fuzz
