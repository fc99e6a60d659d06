//! [`ValidationLog`]: messages of the validation layer.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};

use crate::instance::functions::DebugUtilsFunctions;
use crate::instance::open_error::OpenError;

/// Name of the layer.
pub(crate) const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// Maximum number of messages: a program that draws with an error repeats them endlessly.
const MAX_MESSAGES: usize = 1000;

/// Messages of the validation layer. Readable after the device is dropped, and then includes those about
/// objects that were not destroyed before it.
#[derive(Clone, Debug, Default)]
pub struct ValidationLog(Arc<Log>);

type Log = Mutex<Messages, rank::ValidationMessages>;

#[derive(Debug, Default)]
struct Messages {
    kept: Vec<String>,
    left_out: u64,
}

impl ValidationLog {
    /// Returns all messages so far, the oldest first.
    pub fn messages(&self) -> Vec<String> {
        let messages = self.0.lock();
        let mut all = messages.kept.clone();
        if messages.left_out > 0 {
            all.push(format!("and {} more", messages.left_out));
        }
        all
    }

    /// Returns the create info of a messenger that writes here. The log must outlive it.
    pub(crate) fn messenger_info(&self) -> vk::DebugUtilsMessengerCreateInfoEXT<'static> {
        vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(
                vk::DebugUtilsMessageSeverityFlagsEXT::WARNING
                    | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR,
            )
            .message_type(vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION)
            .pfn_user_callback(Some(on_message))
            .user_data(Arc::as_ptr(&self.0).cast_mut().cast())
    }
}

unsafe extern "system" fn on_message(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _types: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user_data: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: `user_data` is the pointer from `messenger_info`, and the log outlives its messenger.
    let log = unsafe { &*user_data.cast::<Log>() };
    // SAFETY: Vulkan passes data that is valid for the call.
    let message = unsafe { (*data).message_as_c_str() };
    let mut messages = log.lock();
    if messages.kept.len() < MAX_MESSAGES {
        let text = message.map(|text| text.to_string_lossy().into_owned());
        messages.kept.push(text.unwrap_or_default());
    } else {
        messages.left_out += 1;
    }
    // The call that caused the message continues.
    vk::FALSE
}

/// A `VkDebugUtilsMessengerEXT`. The owner of the instance destroys it first.
pub(crate) struct Messenger {
    handle: vk::DebugUtilsMessengerEXT,
    functions: DebugUtilsFunctions,
}

impl Messenger {
    /// Creates a messenger.
    ///
    /// # Safety
    /// The instance is live, has `VK_EXT_debug_utils`, and the log outlives the messenger.
    pub(crate) unsafe fn create(
        instance: vk::Instance,
        functions: DebugUtilsFunctions,
        log: &ValidationLog,
    ) -> Result<Self, OpenError> {
        let mut handle = vk::DebugUtilsMessengerEXT::null();
        // SAFETY: the caller guarantees that instance and log are valid.
        unsafe {
            (functions.create_debug_utils_messenger)(
                instance,
                &log.messenger_info(),
                std::ptr::null(),
                &mut handle,
            )
        }
        .result()
        .map_err(OpenError::vulkan("vkCreateDebugUtilsMessengerEXT"))?;
        Ok(Self { handle, functions })
    }

    /// Destroys the messenger.
    ///
    /// # Safety
    /// Called once, with the instance of `create`.
    pub(crate) unsafe fn destroy(&self, instance: vk::Instance) {
        // SAFETY: the caller guarantees that both are live.
        unsafe {
            (self.functions.destroy_debug_utils_messenger)(instance, self.handle, std::ptr::null());
        }
    }
}
