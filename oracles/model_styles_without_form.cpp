// Models whose norms and layouts are known and that no forward oracle computes.
#include "oracles/model_style.hpp"

#include <array>

namespace bv::oracle {
namespace {

constexpr std::array kFormlessStyles = {
    ModelStyle{.model_type = "step3p5", .norms = Norms::Offsets, .qk_norm = true, .form = false},
    ModelStyle{.model_type = "step3p7", .norms = Norms::Offsets, .qk_norm = true, .form = false},
};

}  // namespace

std::span<const ModelStyle> styles_without_form() {
  return kFormlessStyles;
}

}  // namespace bv::oracle
