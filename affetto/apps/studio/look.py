"""The studio's theme: quiet panels with plain labels, one accent, the same in light and dark."""

from gradio.themes import Base, Soft


def theme() -> Base:
    """Gradio's Soft theme with our labels, borders and buttons; system fonts, so that nothing is asked of other servers."""
    base = Soft(
        primary_hue="violet", neutral_hue="slate", spacing_size="md", radius_size="md",
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"],
    )  # fmt: skip
    plain = "*body_text_color_subdued"
    return base.set(
        body_background_fill="*neutral_50", body_text_color_subdued="*neutral_500", layout_gap="12px", block_padding="10px 12px", block_shadow="none", block_border_width="1px", block_radius="10px",
        block_border_color="*border_color_primary", block_border_color_dark="*border_color_primary",
        block_border_width_dark="1px",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_label_border_width="0px", block_label_border_width_dark="0px", block_label_shadow="none",
        block_label_text_color=plain, block_label_text_color_dark=plain, block_label_text_weight="500",
        block_title_background_fill="transparent", block_title_background_fill_dark="transparent",
        block_title_text_color=plain, block_title_text_color_dark=plain, block_title_text_weight="500",
        block_title_padding="0", block_title_border_width="0px", block_title_border_width_dark="0px",
        block_info_text_size="12px",
        input_border_width="1px", input_border_width_dark="1px", input_border_color="*border_color_primary",
        input_border_color_dark="*border_color_primary", input_shadow="none", input_shadow_dark="none",
        input_padding="7px 10px", input_radius="8px",
        checkbox_border_color="*neutral_400", checkbox_border_color_dark="*neutral_500", checkbox_label_shadow="none", checkbox_label_padding="6px 10px", checkbox_label_border_width="1px",
        checkbox_label_border_width_dark="1px", checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        button_primary_background_fill="*primary_600", button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700", button_primary_background_fill_hover_dark="*primary_500",
        button_primary_shadow="none", button_primary_shadow_hover="none", button_secondary_shadow="none",
        button_secondary_shadow_hover="none", button_border_width="1px", button_border_width_dark="1px",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800", button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*border_color_primary", button_secondary_border_color_dark="*border_color_primary",
        button_large_padding="9px 16px", button_large_text_size="14px", button_large_text_weight="600",
        button_small_padding="6px 12px", button_small_text_size="13px",
    )  # fmt: skip
